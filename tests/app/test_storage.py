"""Local storage, and the staging folder."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path

import pytest

from app import storage as storage_module
from app.problems import BodyTooLarge, DigestMismatch, DiskFull, EmptyFile, LengthMismatch
from app.staging import StagingFile, check_space, disk_full_told, sweep_staging
from app.storage import LocalStorage


def staging(folder: Path, **changes: int) -> StagingFile:
    folder.mkdir(exist_ok=True)
    return StagingFile(folder, **{"max_bytes": 100, "reserve_bytes": 0, **changes})


@pytest.fixture
def other_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Staging lies on another file system than the store."""
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if self.name.startswith("."):
            return replace(self, target)
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(Path, "replace", refuse)


@pytest.mark.usefixtures("other_disk")
def test_from_another_disk_it_is_copied(storage: LocalStorage, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "fresh").write_bytes(b"x")
    storage.publish_folder(folder, "r/1")
    file = tmp_path / "f"
    file.write_bytes(b"y")
    storage.publish_file(file, "q/1/f")
    assert list(storage.keys()) == ["q/1/f", "r/1/fresh"]
    assert not folder.exists()
    assert not file.exists()


@pytest.mark.usefixtures("other_disk")
def test_a_copy_that_finds_the_disk_full_leaves_nothing(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"hal")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    file = tmp_path / "f"
    file.write_bytes(b"half")
    with pytest.raises(OSError, match="No space"):
        storage.publish_file(file, "q/1/f")
    assert list(storage.keys()) == []
    assert file.exists()


def test_a_folder_deleted_in_the_middle_is_made_again(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, deletions = Path.replace, [True]

    def delete_first(self: Path, target: Path) -> Path:
        if deletions:
            deletions.pop()
            storage.delete("references/pbmc/1")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", delete_first)
    file = tmp_path / "f"
    file.write_bytes(b"x")
    storage.publish_file(file, "references/pbmc/2")
    assert list(storage.keys()) == ["references/pbmc/2"]


def test_folders_that_all_share_stay(storage: LocalStorage, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"x")
    storage.publish_file(file, "queries/1/x")
    storage.delete("queries/1")
    assert [path.name for path in storage.root.iterdir()] == ["queries"]


def test_a_new_stores_name_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(storage_module, "_fsync", synced.append)
    LocalStorage(tmp_path / "data" / "store")
    assert synced == [tmp_path, tmp_path / "data"]


def test_an_upload_is_hashed_and_compared(tmp_path: Path) -> None:
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    file = staging(tmp_path / "s")
    file.write([b"a", b"bc"])
    done = file.finish(length=3, sha256=digest)
    assert (done.bytes, done.sha256, done.path.read_bytes()) == (3, digest, b"abc")
    file.discard()


@pytest.mark.parametrize(
    ("content", "length", "problem"),
    [
        (b"abd", 3, DigestMismatch),
        (b"ab", 3, LengthMismatch),
        (b"", None, EmptyFile),
        (b"x" * 101, None, BodyTooLarge),
    ],
)
def test_an_upload_that_is_not_what_was_declared(
    tmp_path: Path, content: bytes, length: int | None, problem: type[Exception]
) -> None:
    file = staging(tmp_path / "s")
    with pytest.raises(problem):  # noqa: PT012 - one upload
        file.write([content])
        file.finish(length=length, sha256="0" * 64)
    file.discard()
    assert list((tmp_path / "s").iterdir()) == []


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with pytest.raises(DiskFull):
        check_space(tmp_path, 1 << 62)
    with pytest.raises(DiskFull), disk_full_told():
        raise OSError(28, "No space left on device")
    with pytest.raises(PermissionError), disk_full_told():
        raise PermissionError(13, "no")


def test_the_sweep_spares_living_uploads(tmp_path: Path) -> None:
    live = staging(tmp_path / "s")
    dead = tmp_path / "s" / "upload-dead.part"
    dead.write_bytes(b"x")
    scratch = tmp_path / "s" / "somebody-elses"
    scratch.write_bytes(b"x")
    assert sweep_staging(tmp_path / "s") == 0
    old = time.time() - 120
    for path in (live.path, dead, scratch):
        os.utime(path, (old, old))
    assert sweep_staging(tmp_path / "s") == 1
    assert live.path.exists()
    assert scratch.exists()
    live.discard()
    assert not live.path.exists()


def test_the_sweep_spares_a_file_that_waits_to_be_kept(tmp_path: Path) -> None:
    file = staging(tmp_path / "s")
    file.write([b"abc"])
    done = file.finish(length=3, sha256=None)
    old = time.time() - 120
    os.utime(done.path, (old, old))
    assert sweep_staging(tmp_path / "s") == 0
    file.close()
    assert sweep_staging(tmp_path / "s") == 1


def test_every_sync_comes_before_the_answer(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file's bytes, then the rename, then the folders: in this order."""
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(descriptor: object) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()  # type: ignore[attr-defined]
        steps.append("fsync " + Path(f"/proc/self/fd/{number}").readlink().name)
        fsync(number)

    def note_replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    file = staging(tmp_path / "s")
    file.write([b"abc"])
    done = file.finish(length=None, sha256=None)
    storage.publish_file(done.path, "q/1/x")
    file.close()
    name = done.path.name
    assert steps[:2] == [f"fsync {name}", f"fsync {name}"]
    assert steps[-2:] == ["rename", "fsync 1"]
    assert {"fsync q", "fsync store"} <= set(steps)
