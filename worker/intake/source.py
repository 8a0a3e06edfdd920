"""Reading from a file that has been looked over: sizes and filters are judged before bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5g, h5p

from app.problems import Problem
from worker.intake.chunks import VARIABLE_ITEM, short_chunk
from worker.intake.filters import filter_name, is_allowed
from worker.intake.findings import located, reading
from worker.intake.limits import MIB, Limits
from worker.intake.links import resolve
from worker.intake.patience import losing_patience
from worker.names import readable

ATTRIBUTE_BYTES = 16 * MIB
WRITE_GZIP = "Write the file again with write_h5ad(..., compression='gzip') and upload that."


class Source:
    """An open file, each path resolved link by link before anything is opened by it.

    Paths are absolute, as in pointers.
    """

    def __init__(self, file: h5py.File, limits: Limits) -> None:
        self.file = file
        self.limits = limits
        self.size = int(file.id.get_filesize())
        self._hard: dict[str, bytes | None] = {}

    def _resolve(self, path: str) -> bytes | None:
        """The hard path of what stands at `path`, None where there is nothing."""
        if path not in self._hard:
            with reading(path):
                root = h5g.open(self.file.id, b"/")
                self._hard[path] = resolve(root, path.encode("utf-8", "surrogateescape"))
        return self._hard[path]

    def _open(self, path: str) -> Any:
        """The object at `path`; None where there is nothing."""
        found = self._resolve(path)
        with reading(path):
            return None if found is None else self.file[found]

    def has(self, path: str) -> bool:
        """Whether anything is called so; a link that may not be followed counts."""
        try:
            return self._resolve(path) is not None
        except Problem:
            return True

    def is_group(self, path: str) -> bool:
        return isinstance(self._open(path), h5py.Group)

    def is_dataset(self, path: str) -> bool:
        return isinstance(self._open(path), h5py.Dataset)

    def keys(self, path: str) -> list[str]:
        """The names in a group; none where there is no group that may be opened."""
        try:
            found = self._open(path)
        except Problem:
            return []  # the walk over all links has told what is wrong with it
        with reading(path):
            return sorted(map(readable, found)) if isinstance(found, h5py.Group) else []

    def attribute(self, path: str, name: str) -> Any:
        """An attribute as text, a number or an array; None when there is none."""
        found = self._open(path)
        with reading(path), losing_patience():
            if found is None or name not in found.attrs:
                return None
            attributes = found.attrs
            identity = attributes.get_id(name)
            if identity.shape is None:
                return None  # a placeholder says nothing
            if math.prod(identity.shape) * identity.dtype.itemsize > ATTRIBUTE_BYTES:
                detail = f"The attribute {name} of {path} is unusually large."
                raise located("attribute-too-large", path, detail)
            value = attributes[name]
            return readable(value) if isinstance(value, bytes | str) else value

    def scalar(self, path: str, name: str) -> Any:
        """An attribute that must be one value: text, a number, or None when there is none."""
        value = self.attribute(path, name)
        if not (value is None or isinstance(value, str) or np.ndim(value) == 0):
            raise located(
                "attribute-not-scalar", path, f"The attribute {name} of {path} is no single value."
            )
        return value

    def dataset(self, path: str) -> h5py.Dataset:
        """A dataset that may be read: filters known, sizes bounded, chunks cached for one pass."""
        found = self._open(path)
        if not isinstance(found, h5py.Dataset):
            raise located("missing-array", path, f"{path} is missing or is no array.")
        with reading(path):
            if found.dtype.subdtype is not None:
                detail = f"{path} holds an array in every one of its places."
                raise located("wrong-dimensions", path, detail)
            self._judge_filters(path, found)
            self._judge_size(path, found)
            if (at := short_chunk(found)) is not None:
                raise _short(path, at)
            return _with_chunk_cache(self.file, self._resolve(path) or b"", found)

    def vector(self, path: str, length: int | None = None) -> h5py.Dataset:
        """A one-dimensional dataset, small enough to be read whole."""
        dataset = self.dataset(path)
        if dataset.ndim != 1:
            raise located(
                "wrong-dimensions", path, f"{path} has {dataset.ndim} dimensions, not one."
            )
        if length is not None and dataset.shape[0] != length:
            raise located(
                "wrong-length", path, f"{path} holds {dataset.shape[0]:,} values, not {length:,}."
            )
        if math.prod(dataset.shape) * dataset.dtype.itemsize > self.limits.vector_bytes:
            raise _too_much(
                "declares-too-much", path, f"{path} declares more bytes than a column may have."
            )
        return dataset

    def _judge_filters(self, path: str, dataset: h5py.Dataset) -> None:
        properties = dataset.id.get_create_plist()
        codes = [properties.get_filter(at)[0] for at in range(properties.get_nfilters())]
        for code in codes:
            if not is_allowed(code):
                detail = f"{path} is compressed by the filter {filter_name(code)}."
                raise located("unknown-filter", path, detail, WRITE_GZIP)
        if len(set(codes)) < len(codes):
            # Each pass of deflate multiplies what the one before it has unpacked.
            detail = f"{path} is compressed by the same filter several times over."
            raise located("unknown-filter", path, detail, WRITE_GZIP)

    def _judge_size(self, path: str, dataset: h5py.Dataset) -> None:
        if dataset.shape is None:
            raise located("placeholder", path, f"{path} is an empty placeholder without a shape.")
        item = dataset.dtype.itemsize
        # numpy's product wraps around at 2^63.
        declared = math.prod(dataset.shape) * item
        if declared > self.limits.dataset_bytes:
            raise _too_much("declares-too-much", path, f"{path} declares {declared:,} bytes.")
        if self._expands(declared):
            raise _too_much(
                "expands-too-much",
                path,
                f"{path} declares {declared:,} bytes, and the whole file has {self.size:,}.",
            )
        if dataset.chunks and dataset.id.get_storage_size() > _most_stored(dataset, item):
            detail = f"{path} stores more bytes than its chunks can hold."
            raise located("damaged-file", path, detail)
        if dataset.chunks and math.prod(dataset.chunks) * item > self.limits.chunk_bytes:
            raise _too_much(
                "chunk-too-large",
                path,
                f"{path} is stored in chunks larger than a check can unpack.",
            )

    def _expands(self, declared: int) -> bool:
        # By the whole file: the ones of a matrix that was made binary pack a thousandfold, but
        # their places do not, and damaged chunks may all claim the same bytes.
        bounds = self.limits
        if declared > bounds.expansion_floor and declared > self.size * bounds.expansion:
            return True
        return declared > bounds.packing_floor and declared > self.size * bounds.packing


def _most_stored(dataset: h5py.Dataset, item: int) -> int:
    """Bytes that honest chunks may take: filters that do not make one smaller are left out.

    One that takes more holds what unpacks to far more than a chunk.
    """
    sides = zip(dataset.shape, dataset.chunks, strict=True)
    chunks = math.prod(-(-length // chunk) for length, chunk in sides)
    return int(chunks * (math.prod(dataset.chunks) * max(item, VARIABLE_ITEM) * 1.02 + 1024))


def blocks(length: int, step: int) -> Iterator[tuple[int, int]]:
    for start in range(0, length, step):
        yield start, min(start + step, length)


def _with_chunk_cache(file: h5py.File, path: bytes, dataset: h5py.Dataset) -> h5py.Dataset:
    """Open again with room for a band of chunks, so that a pass in blocks unpacks each once."""
    if not dataset.chunks:
        return dataset
    chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize
    across = -(-dataset.shape[1] // dataset.chunks[1]) if dataset.ndim == 2 else 1
    wanted = 2 * chunk * across
    access = h5p.create(h5p.DATASET_ACCESS)
    access.set_chunk_cache(10_007, max(MIB, min(wanted, 256 * MIB)), 1.0)
    return h5py.Dataset(h5d.open(file.id, path, access))


def _short(path: str, at: tuple[int, ...]) -> Problem:
    detail = f"{path} has a chunk at {list(at)} with fewer or more bytes than it can have."
    return located("damaged-file", path, detail)


def _too_much(code: str, path: str, detail: str) -> Problem:
    return located(
        code,
        path,
        detail,
        "Store the counts as a sparse matrix with ordinary chunks (write_h5ad does so), or "
        "upload the cells in several files.",
    )
