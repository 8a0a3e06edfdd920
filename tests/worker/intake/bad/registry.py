"""What a bad file is, and how each module of this package enters its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py

from tests.worker.intake import files

Break = Callable[[h5py.File, Path], None]
Write = Callable[[Path], Path]
Change = Callable[[bytes], bytes]
READER_SAYS = ("damaged-file", "crashes-reader", "out-of-memory", "check-too-slow")
"""Of damaged bytes, the HDF5 library's version decides which of these it comes to."""


@dataclass(frozen=True)
class BadFile:
    """One file to refuse: what must be told of it, and where that points."""

    name: str
    kind: str
    write: Write
    codes: tuple[str, ...]
    """All of them are told; of a `damaged` file, one at least."""
    pointer: str
    """Where the first code points."""
    damaged: bool = False
    leads_out: bool = False
    """Whether plain h5py, reading all of it, opens a canary."""


CORPUS: dict[str, BadFile] = {}
HERE = "canary.h5ad", "canary.bin", "fifo", "device"
"""What lies beside each bad file, and must never be opened."""


def enter(bad: BadFile) -> None:
    assert bad.name not in CORPUS, bad.name
    CORPUS[bad.name] = bad


def sound(folder: Path, *, layout: str = "csr", libver: str = "earliest") -> Path:
    """A sound file; with another `libver` its groups and chunks are of the newest kinds."""
    path = files.write_h5ad(folder / "query.h5ad", layout=layout)
    if libver == "latest":
        old = path.rename(folder / "old.h5ad")
        with h5py.File(old) as source, h5py.File(path, "w", libver="latest") as file:
            file.attrs.update(source.attrs)
            for name in source:
                source.copy(name, file)
        old.unlink()
    return path


def breaks(
    kind: str,
    pointer: str,
    *codes: str,
    layout: str = "csr",
    libver: str = "earliest",
    leads_out: bool = False,
    damaged: bool = False,
) -> Callable[[Break], Break]:
    """A sound file, broken by the function that this decorates."""

    def note(function: Break) -> Break:
        def write(folder: Path) -> Path:
            path = sound(folder, layout=layout)
            with h5py.File(path, "a", libver=libver) as file:
                function(file, folder)
            return path

        name = function.__name__
        enter(BadFile(name, kind, write, codes, pointer, damaged=damaged, leads_out=leads_out))
        return function

    return note


def bytes_changed(
    kind: str, name: str, change: Change, *codes: str, libver: str = "earliest", pointer: str = "/"
) -> None:
    """A sound file whose bytes are changed; without codes it is whatever the reader says."""

    def write(folder: Path) -> Path:
        path = sound(folder, libver=libver)
        path.write_bytes(change(path.read_bytes()))
        return path

    damaged = not codes
    enter(BadFile(name, kind, write, codes or READER_SAYS, pointer, damaged=damaged))


def replace(file: h5py.File, path: str, data: object, **how: object) -> None:
    """Store an array anew, with its attributes."""
    attributes = dict(file[path].attrs)
    del file[path]
    file.create_dataset(path, data=data, **how).attrs.update(attributes)


def patch(path: Path, old: bytes, new: bytes) -> None:
    """Change bytes that h5py would not write; all places where they stand."""
    content = path.read_bytes()
    assert old in content
    assert len(old) == len(new)
    path.write_bytes(content.replace(old, new))
