"""With the validator off, the sandbox alone keeps everything but the file itself unread.

Each attack is also made in a process without the sandbox's walls, which does read the canary: so
the attack works, and the watch notices it.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from .conftest import Naive
from .watching import watching

SECRET = np.arange(1000, 1016, dtype=np.float64)
Attack = Callable[[h5py.File, Path], None]


def external_link(file: h5py.File, neighbour: Path) -> None:
    file["found"] = h5py.ExternalLink(str(neighbour), "/X")


def relative_link(file: h5py.File, neighbour: Path) -> None:
    up = os.path.relpath(neighbour, Path(file.filename).parent)
    file["found"] = h5py.ExternalLink(up, "/X")


def link_by_a_symlink(file: h5py.File, neighbour: Path) -> None:
    beside = Path(file.filename).with_name("alias.h5ad")
    beside.symlink_to(neighbour)
    file["found"] = h5py.ExternalLink(str(beside), "/X")


def soft_link_through_an_external_one(file: h5py.File, neighbour: Path) -> None:
    file["way"] = h5py.ExternalLink(str(neighbour), "/")
    file["found"] = h5py.SoftLink("/way/X")


def external_storage(file: h5py.File, neighbour: Path) -> None:
    with h5py.File(neighbour) as other:
        start = other["X"].id.get_offset()
    file.create_dataset(
        "found", SECRET.shape, "f8", external=[(str(neighbour), start, SECRET.nbytes)]
    )


def virtual_dataset(file: h5py.File, neighbour: Path) -> None:
    layout = h5py.VirtualLayout(SECRET.shape, "f8")
    layout[:] = h5py.VirtualSource(str(neighbour), "X", SECRET.shape)
    file.create_virtual_dataset("found", layout, fillvalue=-7)


ATTACKS: tuple[Attack, ...] = (
    external_link,
    relative_link,
    link_by_a_symlink,
    soft_link_through_an_external_one,
    external_storage,
    virtual_dataset,
)


@pytest.fixture
def neighbour(tmp_path: Path) -> Path:
    """Another tenant's upload."""
    path = tmp_path / "elsewhere" / "neighbour.h5ad"
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file["X"] = SECRET
    return path


def hostile(folder: Path, attack: Callable[[h5py.File], None]) -> Path:
    path = folder / "upload.h5ad"
    with h5py.File(path, "w") as file:
        file["own"] = [1.0, 2.0]
        attack(file)
    return path


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_another_upload_stays_unread(
    attack: Attack, layer: str, naive: Naive, neighbour: Path, tmp_path: Path
) -> None:
    path = hostile(tmp_path, lambda file: attack(file, neighbour))
    with watching(neighbour) as watched:
        seen = naive(path, "follow")
    assert seen["own"] == [1.0, 2.0]
    if layer != "limits":
        assert not watched.touched
        if attack is virtual_dataset:
            # The sandbox refuses the source, and HDF5 passes over it in silence: a check that
            # looked no further would take the filling for data. Only looking first tells.
            assert seen["found"] == [-7.0] * len(SECRET)
        else:
            assert str(seen["found"]).startswith("error")
    else:
        assert watched.touched
        assert seen["found"] == SECRET.tolist()


SYSTEM_FILES = ("/etc/passwd", "/etc/hostname", "/proc/self/maps")


@pytest.mark.parametrize("place", SYSTEM_FILES)
def test_a_file_of_the_system_stays_unread(
    place: str, layer: str, naive: Naive, tmp_path: Path
) -> None:
    def attack(file: h5py.File) -> None:
        file.create_dataset("found", (8,), "u1", external=[(place, 0, 8)])

    seen = naive(hostile(tmp_path, attack), "follow")["found"]
    if layer == "limits" or (layer == "bubblewrap" and place.startswith("/proc")):
        assert any(seen)  # bubblewrap shows a process itself, and itself alone
    else:
        assert seen == "error: OSError"


def test_a_device_stays_unread(layer: str, naive: Naive, tmp_path: Path) -> None:
    def attack(file: h5py.File) -> None:
        file.create_dataset("found", (64,), "u1", external=[("/dev/urandom", 0, 64)])

    seen = naive(hostile(tmp_path, attack), "follow")["found"]
    if layer == "limits":
        assert any(seen)
    else:
        assert seen == "error: OSError"


class Listener(threading.Thread):
    """Notices whoever opens the reading end of a FIFO, and lets him go on."""

    def __init__(self, fifo: Path) -> None:
        super().__init__(daemon=True)
        self._fifo, self._over = fifo, threading.Event()
        self.met = False
        self.start()

    def run(self) -> None:
        while not self._over.wait(0.02):
            try:
                os.close(os.open(self._fifo, os.O_WRONLY | os.O_NONBLOCK))
            except OSError as error:
                if error.errno != errno.ENXIO:  # which says that nobody reads
                    raise
            else:
                self.met = True
                return

    def stop(self) -> bool:
        self._over.set()
        self.join(5)
        return self.met


def test_a_fifo_is_not_waited_for(layer: str, naive: Naive, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def attack(file: h5py.File) -> None:
        file["found"] = h5py.ExternalLink(str(fifo), "/X")

    listener = Listener(fifo)
    seen = naive(hostile(tmp_path, attack), "follow", seconds=10)
    assert listener.stop() is (layer == "limits")
    assert str(seen["found"]).startswith("error")


def test_what_is_beside_the_file_stays_unseen(layer: str, naive: Naive, tmp_path: Path) -> None:
    """Within bubblewrap an empty file stands where the upload is, and goes with the check."""
    first = hostile(tmp_path, lambda file: None)
    naive(first, "follow")
    other = tmp_path / "other.h5ad"
    other.write_bytes(first.read_bytes())
    found = naive(other, f"escape {first}")
    assert (found["read another file"] == "done") is (layer == "limits")
