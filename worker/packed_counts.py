"""The counts of query.h5ad as HDF5 keeps them: chunks that are shuffled and deflated.

A chunk is a function of the counts alone. Whoever has the rows can pack it, by several threads or
on several machines, and the file is the same bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from worker.canonical import CanonicalQuery

CHUNK = 65_536
LEVEL = 1
PACKED_AT_ONCE = 32
"""Chunks that are held in memory, each of 256 KiB before it is packed."""
ARRAYS = ("indices", "data")
Values = np.ndarray[Any, Any]


class PackedCounts(Protocol):
    """Both arrays of the counts, as chunks in their order."""

    def chunks(self, array: str) -> Iterator[bytes]:
        """Of `indices` or `data`, each of `chunk_length` values before it was packed."""


def chunk_length(nnz: int) -> int:
    """Values in a chunk of a query with so many; the last chunk is filled up with zeros."""
    return max(1, min(CHUNK, nnz))


def owned_chunks(query: CanonicalQuery, start: int, stop: int) -> range:
    """The chunks that begin within these cells: shards that touch share them out without gaps."""
    length = chunk_length(query.nnz)
    first, last = int(query.indptr[start]), int(query.indptr[stop])
    return range(-(-first // length), -(-last // length))


class OwnCounts:
    """The chunks of a canonical query, or those of some of its cells, packed when asked for."""

    def __init__(
        self, query: CanonicalQuery, *, threads: int, cells: tuple[int, int] | None = None
    ) -> None:
        self._query, self._threads = query, threads
        self._owned = owned_chunks(query, *(cells or (0, query.n_cells)))

    def chunks(self, array: str) -> Iterator[bytes]:
        length = chunk_length(self._query.nnz)

        def pack(number: int) -> bytes:
            stop = min((number + 1) * length, self._query.nnz)
            return pack_chunk(self._query.entries(array, number * length, stop), length)

        with ThreadPoolExecutor(self._threads) as pool:
            for at in range(0, len(self._owned), PACKED_AT_ONCE):
                some = self._owned[at : at + PACKED_AT_ONCE]
                yield from pool.map(pack, some)


class StoredCounts:
    """Chunks that `store_packed` wrote into folders, one folder a shard, in order."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders

    def chunks(self, array: str) -> Iterator[bytes]:
        for folder in self._folders:
            with (folder / f"{array}.packed").open("rb") as file:
                for size in np.load(folder / f"{array}.sizes.npy"):
                    chunk = file.read(int(size))
                    if len(chunk) != size:
                        raise ValueError(f"{folder.name}/{array}.packed is cut short")
                    yield chunk


def store_packed(counts: PackedCounts, folder: Path) -> None:
    """Write the chunks of both arrays one after the other, and their sizes."""
    for array in ARRAYS:
        sizes = []
        with (folder / f"{array}.packed").open("wb") as file:
            for chunk in counts.chunks(array):
                file.write(chunk)
                sizes.append(len(chunk))
        np.save(folder / f"{array}.sizes.npy", np.array(sizes, dtype=np.int64))


def pack_chunk(values: Values, length: int) -> bytes:
    """What HDF5's filters shuffle and deflate make of one chunk of such a length."""
    chunk = np.zeros(length, dtype=values.dtype)
    chunk[: len(values)] = values
    shuffled = chunk.view(np.uint8).reshape(length, -1).T
    return zlib.compress(shuffled.tobytes(), LEVEL)
