"""Reading from a file that has been looked over: sizes and filters are judged before bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p

from app.problems import FileTooLarge, Problem, UnreadableFile, UnsupportedFile
from worker.intake.findings import located, reading
from worker.intake.limits import MIB, Limits
from worker.names import readable

FILTERS = frozenset({1, 2, 3, 32000})
"""deflate, shuffle, fletcher32, lzf: what h5py brings itself and anndata writes."""
FILTER_NAMES = {4: "szip", 5: "nbit", 6: "scaleoffset", 32001: "blosc", 32008: "bitshuffle"}
FILTER_NAMES |= {32004: "lz4", 32015: "zstd", 32026: "blosc2"}
ATTRIBUTE_BYTES = 16 * MIB
WRITE_GZIP = "Write the file again with write_h5ad(..., compression='gzip') and upload that."


class Source:
    """An open h5ad whose links have been walked. Paths are absolute, as in pointers."""

    def __init__(self, file: h5py.File, limits: Limits) -> None:
        self.file = file
        self.limits = limits

    def has(self, path: str) -> bool:
        with reading(path):
            return path in self.file

    def is_group(self, path: str) -> bool:
        with reading(path):
            return self.file.get(path, getclass=True) is h5py.Group

    def is_dataset(self, path: str) -> bool:
        with reading(path):
            return self.file.get(path, getclass=True) is h5py.Dataset

    def keys(self, path: str) -> list[str]:
        with reading(path):
            return sorted(map(readable, self.file[path])) if self.is_group(path) else []

    def attribute(self, path: str, name: str) -> Any:
        """An attribute as text, a number or an array; None when there is none."""
        with reading(path):
            attributes = self.file[path].attrs
            if name not in attributes:
                return None
            identity = attributes.get_id(name)
            if int(np.prod(identity.shape)) * identity.dtype.itemsize > ATTRIBUTE_BYTES:
                raise located(
                    FileTooLarge, path, f"The attribute {name} of {path} is unusually large."
                )
            value = attributes[name]
            return readable(value) if isinstance(value, bytes | str) else value

    def scalar(self, path: str, name: str) -> Any:
        """An attribute that must be one value: text, a number, or None when there is none."""
        value = self.attribute(path, name)
        if not (value is None or isinstance(value, str) or np.ndim(value) == 0):
            raise located(
                UnreadableFile, path, f"The attribute {name} of {path} is no single value."
            )
        return value

    def dataset(self, path: str) -> h5py.Dataset:
        """A dataset that may be read: filters known, sizes bounded, chunks cached for one pass."""
        with reading(path):
            if not self.is_dataset(path):
                raise located(UnreadableFile, path, f"{path} is missing or is no array.")
            found = self.file[path]
            self._judge_filters(path, found)
            self._judge_size(path, found)
            return _with_chunk_cache(self.file, path, found)

    def vector(self, path: str, length: int | None = None) -> h5py.Dataset:
        """A one-dimensional dataset, small enough to be read whole."""
        dataset = self.dataset(path)
        if dataset.ndim != 1:
            raise located(UnreadableFile, path, f"{path} has {dataset.ndim} dimensions, not one.")
        if length is not None and dataset.shape[0] != length:
            raise located(
                UnreadableFile, path, f"{path} holds {dataset.shape[0]:,} values, not {length:,}."
            )
        if dataset.size * dataset.dtype.itemsize > self.limits.vector_bytes:
            raise _too_much(path, f"{path} declares more bytes than a column may have.")
        return dataset

    def _judge_filters(self, path: str, dataset: h5py.Dataset) -> None:
        properties = dataset.id.get_create_plist()
        for position in range(properties.get_nfilters()):
            code = properties.get_filter(position)[0]
            if code not in FILTERS:
                name = FILTER_NAMES.get(code, f"number {code}")
                raise located(
                    UnsupportedFile, path, f"{path} is compressed by the filter {name}.", WRITE_GZIP
                )

    def _judge_size(self, path: str, dataset: h5py.Dataset) -> None:
        if dataset.shape is None:
            raise located(UnreadableFile, path, f"{path} is an empty placeholder without a shape.")
        item = dataset.dtype.itemsize
        declared = int(dataset.size) * item
        stored = dataset.id.get_storage_size()
        if declared > self.limits.dataset_bytes:
            raise _too_much(path, f"{path} declares {declared:,} bytes.")
        if declared > self.limits.expansion_floor and declared > stored * self.limits.expansion:
            raise _too_much(
                path, f"{path} declares {declared:,} bytes, but the file stores {stored:,} of them."
            )
        if dataset.chunks and int(np.prod(dataset.chunks)) * item > self.limits.chunk_bytes:
            raise _too_much(path, f"{path} is stored in chunks larger than a check can unpack.")


def blocks(length: int, step: int) -> Iterator[tuple[int, int]]:
    for start in range(0, length, step):
        yield start, min(start + step, length)


def _with_chunk_cache(file: h5py.File, path: str, dataset: h5py.Dataset) -> h5py.Dataset:
    """Open again with room for a band of chunks, so that a pass in blocks unpacks each once."""
    if not dataset.chunks:
        return dataset
    chunk = int(np.prod(dataset.chunks)) * dataset.dtype.itemsize
    across = -(-dataset.shape[1] // dataset.chunks[1]) if dataset.ndim == 2 else 1
    wanted = 2 * chunk * across
    access = h5p.create(h5p.DATASET_ACCESS)
    access.set_chunk_cache(10_007, max(MIB, min(wanted, 256 * MIB)), 1.0)
    return h5py.Dataset(h5d.open(file.id, path.encode(), access))


def _too_much(path: str, detail: str) -> Problem:
    return located(
        FileTooLarge,
        path,
        detail,
        "Store the counts as a sparse matrix with ordinary chunks (write_h5ad does so), or "
        "upload the cells in several files.",
    )
