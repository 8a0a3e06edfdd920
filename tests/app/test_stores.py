"""What every kind of store does: one contract, on a local folder and over HTTP."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.s3_storage import S3Storage
from app.settings import Settings
from app.storage import LocalStorage, Storage, open_storage, read_whole

from .object_store import NewPlace

SEVERAL_PARTS = 20_000_000


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, new_place: NewPlace) -> Storage:
    url = (tmp_path / "store").as_uri() if request.param == "local" else new_place()
    return open_storage(url, cache=tmp_path / "cache", cache_bytes=10**9)


def file_of(folder: Path, content: bytes) -> Path:
    path = folder / "f"
    path.write_bytes(content)
    return path


def folder_of(folder: Path, **files: bytes) -> Path:
    made = folder / "made"
    (made / "sub").mkdir(parents=True)
    for name, content in files.items():
        (made / name.replace("__", "/")).write_bytes(content)
    return made


class TestStore:
    def test_files_and_folders_are_published(self, store: Storage, tmp_path: Path) -> None:
        file = file_of(tmp_path, b"0123456789")
        store.publish_file(file, "a/b/c")
        assert not file.exists()
        assert store.size("a/b/c") == 10
        assert store.exists("a/b/c")
        assert b"".join(store.read("a/b/c", 2, 5)) == b"234"
        folder = folder_of(tmp_path, sub__x=b"x")
        store.publish_folder(folder, "a/d")
        assert not folder.exists()
        assert list(store.keys("a")) == ["a/b/c", "a/d/sub/x"]
        assert list(store.keys("a/b/c")) == ["a/b/c"]

    def test_what_was_deleted_is_gone(self, store: Storage, tmp_path: Path) -> None:
        for key in ("a/b/c", "a/b/d/e", "a/bc"):
            store.publish_file(file_of(tmp_path, b"x"), key)
        store.delete("a/b")
        store.delete("a/b")
        assert list(store.keys()) == ["a/bc"]
        store.delete("a/bc")
        assert list(store.keys()) == []
        assert not store.exists("a/bc")

    def test_many_keys_are_listed_and_deleted(self, store: Storage, tmp_path: Path) -> None:
        """More than one page of a listing, and more than one request of deletions."""
        folder = folder_of(tmp_path, **{f"sub__{n:04}": b"" for n in range(1100)})
        store.publish_folder(folder, "a")
        assert list(store.keys("a")) == [f"a/sub/{n:04}" for n in range(1100)]
        store.delete("a")
        assert list(store.keys()) == []

    def test_a_crashed_attempts_folder_is_replaced(self, store: Storage, tmp_path: Path) -> None:
        store.publish_folder(folder_of(tmp_path, old=b"", both=b"old"), "r/1")
        store.publish_folder(folder_of(tmp_path, fresh=b"", both=b"new"), "r/1")
        assert list(store.keys("r")) == ["r/1/both", "r/1/fresh"]
        assert read_whole(store, "r/1/both") == b"new"

    @pytest.mark.parametrize("size", [0, 1, SEVERAL_PARTS])
    def test_bytes_of_every_size_come_back(self, store: Storage, tmp_path: Path, size: int) -> None:
        content = os.urandom(size)
        store.publish_file(file_of(tmp_path, content), "q/1/f")
        assert read_whole(store, "q/1/f") == content
        with store.borrow_file("q/1/f") as path:
            assert path.name == "f"
            assert path.read_bytes() == content
        assert b"".join(store.read("q/1/f", size // 2, size)) == content[size // 2 :]

    def test_names_that_need_quoting(self, store: Storage, tmp_path: Path) -> None:
        key = "q/1/sample 1+2%20 é#?.h5ad"
        store.publish_file(file_of(tmp_path, b"x"), key)
        assert list(store.keys("q/1")) == [key]
        assert read_whole(store, key) == b"x"
        store.delete(key)
        assert list(store.keys()) == []

    def test_a_borrowed_folder_is_as_it_was_published(self, store: Storage, tmp_path: Path) -> None:
        store.publish_folder(folder_of(tmp_path, a=b"1", sub__b=b"2"), "r/1")
        with store.borrow_folder("r/1") as folder:
            found = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
            assert found == {folder / "a": b"1", folder / "sub" / "b": b"2"}

    def test_what_is_not_there_is_said_at_once(self, store: Storage) -> None:
        with pytest.raises(FileNotFoundError):
            store.size("a/b")
        with pytest.raises(FileNotFoundError):
            store.read("a/b", 0, 10)
        assert list(store.keys("a")) == []

    @pytest.mark.parametrize("key", ["", "../x", "/etc/passwd", "a/../../x", "."])
    def test_keys_stay_inside(self, store: Storage, key: str) -> None:
        with pytest.raises(ValueError, match="not a key"), store.borrow_file(key):
            pass

    def test_a_look_whether_it_can_be_written_leaves_nothing(self, store: Storage) -> None:
        store.check_writable()
        assert list(store.keys()) == []


def test_the_url_chooses(tmp_path: Path) -> None:
    folder = tmp_path / "a store"
    opened = open_storage(folder.as_uri(), cache=tmp_path, cache_bytes=1)
    assert isinstance(opened, LocalStorage)
    assert opened.root == folder
    assert isinstance(open_storage("s3://b/p", cache=tmp_path, cache_bytes=1), S3Storage)


@pytest.mark.parametrize("url", ["ftp://x/y", "s3://", "s3:///p", "s3://b?secret=x"])
def test_other_urls_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not understood"):
        open_storage(url, cache=tmp_path, cache_bytes=1)


def test_an_endpoint_is_put_into_a_url_that_has_none() -> None:
    one = Settings(storage_url="s3://b/p?region=x", s3_endpoint="http://h:9")
    assert one.storage_url == "s3://b/p?endpoint=http%3A%2F%2Fh%3A9&region=x"
    two = Settings(storage_url="s3://b/p?endpoint=http%3A%2F%2Fo", s3_endpoint="http://h:9")
    assert two.storage_url == "s3://b/p?endpoint=http%3A%2F%2Fo"
    assert Settings(s3_endpoint="http://h:9").storage_url.startswith("file://")
