"""The folder of local copies: its limit, its locks, and several processes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.local_copies import LocalCopies

SIZE = 1000


def name(of: str) -> str:
    return hashlib.sha256(of.encode()).hexdigest()


class Copies:
    """Copies of `SIZE` bytes, and how often each was made."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.copies = LocalCopies(folder, max_bytes=max_bytes)
        self.made: list[str] = []

    @contextmanager
    def hold(
        self, of: str, before: Callable[[], None] = lambda: None, *, once: bool = False
    ) -> Iterator[Path]:
        def fill(folder: Path) -> None:
            before()
            self.made.append(of)
            (folder / "f").write_bytes(of.encode() * SIZE)

        with self.copies.hold(name(of), SIZE, fill, lambda: None, once=once) as folder:
            assert (folder / "f").read_bytes() == of.encode() * SIZE
            yield folder

    def kept(self) -> set[str]:
        return {of for of in "abcde" if (self.copies.folder / name(of)).is_dir()}


@pytest.fixture
def copies(tmp_path: Path) -> Copies:
    return Copies(tmp_path / "copies", 3 * SIZE)


def use(copies: Copies, *names: str) -> None:
    for of in names:
        with copies.hold(of):
            pass
        time.sleep(0.01)


def test_a_copy_is_made_once(copies: Copies) -> None:
    use(copies, "a", "a", "b", "a")
    assert copies.made == ["a", "b"]


def test_what_was_used_longest_ago_goes_first(copies: Copies) -> None:
    use(copies, "a", "b", "c", "a", "d")
    assert copies.kept() == {"a", "c", "d"}
    use(copies, "e")
    assert copies.kept() == {"a", "d", "e"}


def test_what_is_in_use_stays_even_beyond_the_limit(copies: Copies) -> None:
    with copies.hold("a"), copies.hold("b"), copies.hold("c"), copies.hold("d") as last:
        assert copies.kept() == {"a", "b", "c", "d"}
        assert (last / "f").exists()
    assert len(copies.kept()) == 3


def test_what_is_read_once_is_not_kept(copies: Copies) -> None:
    with copies.hold("a"), copies.hold("a", once=True):
        pass
    assert copies.kept() == {"a"}  # somebody else held it
    with pytest.raises(KeyError), copies.hold("a", once=True):
        raise KeyError
    assert copies.kept() == set()
    assert [path.name for path in copies.copies.folder.iterdir()] == ["room.lock"]


def test_nothing_is_left_of_what_goes(copies: Copies) -> None:
    use(copies, *"abcdeabcde")
    left = {path.name.split(".")[0] for path in copies.copies.folder.iterdir()} - {"room"}
    assert left == {name(of) for of in copies.kept()}


def test_a_failed_copy_leaves_nothing_and_is_made_again(copies: Copies) -> None:
    def fail() -> None:
        raise OSError("cut")

    with pytest.raises(OSError, match="cut"), copies.hold("a", fail):
        pass
    assert copies.kept() == set()
    use(copies, "a")
    assert copies.kept() == {"a"}


def test_what_a_killed_process_left_is_cleared(copies: Copies) -> None:
    folder = copies.copies.folder
    folder.mkdir()
    for left in (f"{name('a')}.5000.part", f"{name('b')}.{'0' * 32}.removed"):
        (folder / left).mkdir()
        (folder / left / "f").write_bytes(b"half")
    use(copies, "c", "a")
    assert copies.kept() == {"a", "c"}
    assert not [path for path in folder.iterdir() if path.suffix in {".part", ".removed"}]


def test_two_who_want_the_same_make_it_once(copies: Copies) -> None:
    threads = [threading.Thread(target=use, args=(copies, "a")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert copies.made == ["a"]


def test_who_waits_for_another_can_be_stopped(copies: Copies) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slowly() -> None:
        begun.set()
        assert go_on.wait(20)

    def hold() -> None:
        with copies.hold("a", slowly):
            pass

    def stop() -> None:
        raise InterruptedError

    other = threading.Thread(target=hold)
    other.start()
    assert begun.wait(20)
    with (
        pytest.raises(InterruptedError),
        copies.copies.hold(name("a"), SIZE, lambda folder: None, stop),
    ):
        pass
    go_on.set()
    other.join(20)
    assert copies.made == ["a"]


MANY = """
import random, sys
from pathlib import Path
from tests.app.test_local_copies import Copies, SIZE

copies = Copies(Path(sys.argv[1]), 2 * SIZE)
for _ in range(150):
    with copies.hold(random.choice("abcde")) as folder:
        again = (folder / "f").read_bytes()
        assert len(again) == SIZE
print(len(copies.made))
"""


def test_several_processes_share_a_folder(tmp_path: Path) -> None:
    """Each sees whole copies for as long as it holds them, although the others make room."""
    command = [sys.executable, "-c", MANY, str(tmp_path / "copies")]
    root = Path(__file__).parents[2]
    running = [
        subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    made = [int(process.communicate(timeout=60)[0]) for process in running]
    assert [process.returncode for process in running] == [0] * 4
    assert sum(made) > 5  # room was made, so copies were made again
    assert len(Copies(tmp_path / "copies", 0).kept()) <= 2
