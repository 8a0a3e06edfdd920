"""Projections of the cells of a query: in memory where they are few, else in files.

Files are read with plain reads. Pages that are mapped would be counted as this process's own
memory, all of them by the time that every cell has been encoded.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models_store.cells import Projection
from models_store.encoding import join_projections

Index = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]

PARTS = ("z", "library", "log_library")
"""The fields of a projection; each that is there is a file of its own."""
MOST_IN_MEMORY = 131_072
"""Cells whose projections are not worth a file: 64 MiB, where a reference has 128 hidden units."""


class Projections(Protocol):
    """The projections of consecutive cells, from 0."""

    def block(self, start: int, stop: int) -> Projection: ...

    def rows(self, cells: Index) -> Projection:
        """Of chosen cells, ascending."""


class KeptProjections(Protocol):
    """Takes projections block by block, and gives all of them back."""

    def add(self, block: Projection) -> None: ...
    def finish(self) -> Projections: ...


def keep_projections(folder: Path | None, n_cells: int) -> KeptProjections:
    """Where the projections of so many cells go; `folder`: a place for files, if there is one."""
    if folder is None or n_cells <= MOST_IN_MEMORY:
        return InMemory()
    return InFiles(folder, n_cells)


class InMemory:
    """Few projections, on the device where they were made."""

    def __init__(self) -> None:
        self._blocks: list[Projection] = []

    def add(self, block: Projection) -> None:
        self._blocks.append(block)

    def finish(self) -> HeldProjections:
        return HeldProjections(join_projections(self._blocks))


class HeldProjections:
    def __init__(self, whole: Projection) -> None:
        self.whole = whole

    def block(self, start: int, stop: int) -> Projection:
        return self.whole.rows(slice(start, stop))

    def rows(self, cells: Index) -> Projection:
        return self.whole.rows(torch.from_numpy(cells).to(self.whole.z.device))


class InFiles:
    """Many projections: a .npy file for each part, as long as it will be in the end."""

    def __init__(self, folder: Path, n_cells: int) -> None:
        self._folder, self._n_cells = folder, n_cells
        self._files: dict[str, BinaryIO] = {}
        self._open = ExitStack()

    def add(self, block: Projection) -> None:
        for part in PARTS:
            values = getattr(block, part)
            if values is not None:
                self._file(part, values.shape[1]).write(values.cpu().contiguous().numpy().data)

    def finish(self) -> StoredProjections:
        self._open.close()
        return StoredProjections(self._folder)

    def _file(self, part: str, width: int) -> BinaryIO:
        if part not in self._files:
            file = self._open.enter_context((self._folder / f"{part}.npy").open("wb"))
            header = {"descr": "<f4", "fortran_order": False, "shape": (self._n_cells, width)}
            np.lib.format.write_array_header_1_0(file, header)
            self._files[part] = file
        return self._files[part]


class StoredProjections:
    """The files that `InFiles` left in a folder."""

    def __init__(self, folder: Path) -> None:
        self._parts = {
            part: _StoredRows(folder / f"{part}.npy")
            for part in PARTS
            if (folder / f"{part}.npy").exists()
        }

    def block(self, start: int, stop: int) -> Projection:
        return self._projection(lambda stored: stored.read(start, stop))

    def rows(self, cells: Index) -> Projection:
        return self._projection(lambda stored: stored.pick(cells))

    def _projection(self, read: Any) -> Projection:
        found: dict[str, Tensor | None] = dict.fromkeys(PARTS)
        found |= {part: torch.from_numpy(read(stored)) for part, stored in self._parts.items()}
        z, log_library = found["z"], found["log_library"]
        assert z is not None
        assert log_library is not None
        return Projection(z, found["library"], log_library)


class _StoredRows:
    """One two-dimensional .npy file of float32."""

    def __init__(self, path: Path) -> None:
        mapped = np.load(path, mmap_mode="r")
        self._path, self._begin, self._width = path, int(mapped.offset), int(mapped.shape[1])

    def read(self, start: int, stop: int) -> Float32:
        """Rows start to stop, (stop - start, width)."""
        found = np.empty((stop - start, self._width), dtype=np.float32)
        with self._path.open("rb") as file:
            self._fill(file.fileno(), start, found)
        return found

    def pick(self, rows: Index) -> Float32:
        """Chosen rows, (rows, width)."""
        found = np.empty((len(rows), self._width), dtype=np.float32)
        with self._path.open("rb") as file:
            for at, row in enumerate(rows.tolist()):
                self._fill(file.fileno(), row, found[at])
        return found

    def _fill(self, file: int, row: int, room: Float32) -> None:
        read = os.preadv(file, [room.data], self._begin + 4 * self._width * row)
        if read != room.nbytes:
            raise ValueError(f"{self._path.name} is cut short")
