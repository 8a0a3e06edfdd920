"""A store that is away, slow, full, or cuts connections; and bytes that are not what they were."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from app.problems import StorageAway, StoredFileDamaged
from app.s3_connection import Patience
from app.s3_storage import S3Storage
from app.storage import read_whole

from .faulty_proxy import ANSWERS, Fault, FaultyProxy
from .live import until
from .object_store import NewPlace

QUICK = Patience(silent_seconds=1, request_seconds=20, retry_seconds=1.5, retries=3)
PROXIED = tuple[str, FaultyProxy]
DATA = os.urandom(9_000_000)


@pytest.fixture
def proxy(behind_proxy: PROXIED) -> FaultyProxy:
    return behind_proxy[1]


@pytest.fixture
def store(behind_proxy: PROXIED, tmp_path: Path) -> S3Storage:
    return S3Storage(behind_proxy[0], folder=tmp_path / "cache", max_bytes=10**9, patience=QUICK)


def file_of(folder: Path, content: bytes = DATA) -> Path:
    path = folder / "f"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("fault", ["away", "error", "full", "cut"])
def test_faults_that_pass_are_not_noticed(
    store: S3Storage, proxy: FaultyProxy, tmp_path: Path, fault: Fault
) -> None:
    proxy.fault, proxy.times = fault, 2
    store.publish_file(file_of(tmp_path), "q/1/f")
    assert proxy.faults_done == 2
    proxy.faults_done, proxy.cut_bytes = 0, 1_000_000
    assert read_whole(store, "q/1/f") == DATA
    proxy.faults_done = 0
    with store.borrow_file("q/1/f") as path:
        assert path.read_bytes() == DATA


@pytest.mark.parametrize("fault", ["away", "error", "full", "cut"])
def test_faults_that_stay_are_told_in_time(
    store: S3Storage, proxy: FaultyProxy, tmp_path: Path, fault: Fault
) -> None:
    store.publish_file(file_of(tmp_path, b"x"), "q/2/f")
    proxy.fault, proxy.cut_bytes = fault, 10
    file = file_of(tmp_path)
    for ask in (
        lambda: store.publish_file(file, "q/1/f"),
        lambda: read_whole(store, "q/2/f"),
        lambda: store.exists("q/2/f"),
        lambda: list(store.keys()),
        lambda: store.check_writable(),
    ):
        began = time.monotonic()
        with pytest.raises(StorageAway) as told:
            ask()
        assert time.monotonic() - began < 30
        assert told.value.headers["Retry-After"] == "10"
    assert ("space" in told.value.detail) == (fault == "full")
    assert file.read_bytes() == DATA
    proxy.fault = "none"
    assert list(store.keys()) == ["q/2/f"]


def test_a_number_in_a_key_says_nothing_of_space(store: S3Storage, proxy: FaultyProxy) -> None:
    proxy.fault = "error"
    with pytest.raises(StorageAway) as told:
        store.exists("q/507/StorageFull")
    assert "space" not in told.value.detail


@pytest.mark.parametrize("code", ["XMinioStorageFull", "QuotaExceeded"])
def test_a_store_says_in_its_answer_that_it_is_full(
    store: S3Storage, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    body = f'<?xml version="1.0"?>\n<Error><Code>{code}</Code></Error>'.encode()
    head = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    monkeypatch.setitem(ANSWERS, "error", head % len(body) + body)
    proxy.fault = "error"
    with pytest.raises(StorageAway, match="no space left"):
        list(store.keys())


def test_a_store_that_says_nothing_is_given_up(
    store: S3Storage, proxy: FaultyProxy, tmp_path: Path
) -> None:
    store.publish_file(file_of(tmp_path, b"x"), "q/1/f")
    proxy.fault, proxy.delay_seconds = "slow", 60
    began = time.monotonic()
    with pytest.raises(StorageAway):
        store.size("q/1/f")
    assert time.monotonic() - began < 30


def test_a_slow_store_is_waited_for(store: S3Storage, proxy: FaultyProxy, tmp_path: Path) -> None:
    proxy.fault, proxy.delay_seconds = "slow", 0.3
    store.publish_file(file_of(tmp_path, DATA[:300_000]), "q/1/f")
    assert read_whole(store, "q/1/f") == DATA[:300_000]


def test_a_bucket_that_does_not_exist_is_no_missing_file(
    new_place: NewPlace, tmp_path: Path
) -> None:
    options = new_place().partition("?")[2]
    store = S3Storage(f"s3://no-such-bucket/p?{options}", folder=tmp_path / "c", max_bytes=1)
    with pytest.raises(StorageAway):
        store.read("q/1/f", 0, 1)


def test_what_could_not_be_removed_is_removed_later(
    store: S3Storage, proxy: FaultyProxy, tmp_path: Path
) -> None:
    for key in ("q/1/f", "q/1/g", "q/10/f"):
        store.publish_file(file_of(tmp_path, b"x"), key)
    proxy.fault = "error"
    store.delete("q/1")
    proxy.fault = "none"
    until(lambda: not store.exists("q/1/f") and not store.exists("q/1/g"), 30)
    assert list(store.keys()) == ["q/10/f"]


def test_what_is_to_be_removed_is_remembered_over_a_restart(
    behind_proxy: PROXIED, new_place: NewPlace, tmp_path: Path
) -> None:
    url, proxy = behind_proxy
    given = {"folder": tmp_path / "cache", "max_bytes": 10**9, "patience": QUICK}
    store = S3Storage(url, **given)
    store.publish_file(file_of(tmp_path, b"x"), "q/1/f")
    store._removals._start = lambda: None  # type: ignore[method-assign] # the process ends here
    proxy.fault = "away"
    store.delete("q/1")
    proxy.fault = "none"
    assert list(store.keys()) == ["q/1/f"]
    again = S3Storage(url, **given)
    until(lambda: list(again.keys()) == [], 30)


def test_a_digest_that_does_not_fit_is_told(store: S3Storage, tmp_path: Path) -> None:
    store.publish_file(file_of(tmp_path, b"right"), "q/1/f")
    with pytest.raises(StoredFileDamaged), store.borrow_file("q/1/f", sha256="0" * 64):
        pass
    store.publish_file(file_of(tmp_path, b"other"), "q/1/g", sha256="1" * 64)
    with pytest.raises(StoredFileDamaged), store.borrow_folder("q/1"):
        pass
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.name in {"f", "g"}]


def test_a_copy_is_made_once_and_again_when_the_bytes_change(
    store: S3Storage, proxy: FaultyProxy, tmp_path: Path
) -> None:
    store.publish_folder(_folder(tmp_path, b"one"), "r/1")
    with store.borrow_folder("r/1") as first:
        assert (first / "f").read_bytes() == b"one"
    with store.borrow_folder("r/1") as second:
        assert second == first
    store.publish_folder(_folder(tmp_path, b"two"), "r/1")
    with store.borrow_folder("r/1") as third:
        assert (third / "f").read_bytes() == b"two"


def test_a_copy_that_is_cut_short_is_seen_by_nobody(
    store: S3Storage, proxy: FaultyProxy, tmp_path: Path
) -> None:
    store.publish_file(file_of(tmp_path), "q/1/f")

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), store.borrow_file("q/1/f", checkpoint=stop):
        pass
    proxy.fault, proxy.cut_bytes = "cut", 100_000
    with pytest.raises(StorageAway), store.borrow_file("q/1/f"):
        pass
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.name == "f"]
    proxy.fault = "none"
    with store.borrow_file("q/1/f") as path:
        assert path.read_bytes() == DATA


def _folder(folder: Path, content: bytes) -> Path:
    made = folder / "made"
    made.mkdir()
    (made / "f").write_bytes(content)
    return made
