"""torch's tensors as its archives write them: views of bounded storages, read as numpy arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from worker.imports.arrays import checked_shape
from worker.imports.refusal import too_large, unreadable

STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
"""torch's class for each kind of storage, and numpy's type."""

Read = Callable[["Storage"], bytes]
Array = npt.NDArray[Any]


class Sealed:
    """A value that no pickle may give a state to."""

    def __setstate__(self, state: Any) -> None:
        raise unreadable("it changes a tensor behind its back")


@dataclass(frozen=True)
class StorageKind(Sealed):
    """A class of storages, which a pickle only names."""

    dtype: str

    @property
    def item(self) -> int:
        return 2 if self.dtype == "bfloat16" else np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Storage(Sealed):
    """Numbers beside the pickle, under a key."""

    key: str
    kind: StorageKind
    numel: int
    offset: int = 0
    """In elements, for the views of old archives."""

    @property
    def n_bytes(self) -> int:
        return self.numel * self.kind.item


class LastRead:
    """Reads a storage once for all tensors in a row that view it, and keeps only the last."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._asked: tuple[str, int] | None = None
        self._raw = b""

    def __call__(self, storage: Storage) -> bytes:
        if (asked := (storage.key, storage.n_bytes)) != self._asked:
            self._asked, self._raw = None, b""
            self._raw = self._read(storage)
            self._asked = asked
        return self._raw


@dataclass(frozen=True)
class Tensor(Sealed):
    """A view of a storage, proved to lie inside what the storage declares."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=object)) * self.storage.kind.item

    def read(self, read: Read) -> Array:
        """The numbers, contiguous, in a type that safetensors and numpy share.

        Raises:
            Refusal: the storage holds other than it declares, so the view may lie outside.
        """
        raw = read(self.storage)
        if len(raw) != self.storage.n_bytes:
            raise too_large(
                f"a tensor of {self.storage.n_bytes:,} bytes, of which {len(raw):,} are there"
            )
        if self.storage.kind.dtype == "bfloat16":
            halves = np.frombuffer(raw, dtype="<u2").astype("<u4") << 16
            flat: Array = halves.view("<f4")
        else:
            flat = np.frombuffer(raw, dtype=self.storage.kind.dtype)
        strides = tuple(step * flat.itemsize for step in self.stride)
        start = flat[self.storage.offset + self.offset :]
        view = np.lib.stride_tricks.as_strided(start, self.shape, strides, writeable=False)
        return np.array(view, order="C")


def storage_kind(module: str, name: str) -> StorageKind | None:
    """The kind that a global such as `torch.FloatStorage` names."""
    known = module in {"torch", "torch.storage", "torch.cuda"} and name in STORAGES
    return StorageKind(STORAGES[name]) if known else None


def storage_of(identity: Any) -> Storage:
    """The storage that a persistent id of torch's means: ('storage', class, key, device, numel).

    Raises:
        Refusal: the id is anything else.
    """
    if not isinstance(identity, tuple) or len(identity) not in {5, 6} or identity[0] != "storage":
        raise unreadable("it refers to something that is no storage of tensors")
    kind, key, numel = identity[1], identity[2], identity[4]
    if not isinstance(kind, StorageKind):
        raise unreadable("it refers to a storage of an unknown type")
    if not isinstance(key, str) or not key.isascii() or not key.isdigit():
        raise unreadable("it refers to a storage by a name that torch never gives")
    if type(numel) is not int or not 0 <= numel < 2**40:
        raise unreadable("it refers to a storage whose size is no size")
    return Storage(key, kind, numel, _view_offset(identity[5] if len(identity) == 6 else None))


def _view_offset(view: Any) -> int:
    if view is None:
        return 0
    if not isinstance(view, tuple) or len(view) != 3 or type(view[1]) is not int or view[1] < 0:
        raise unreadable("it refers to a part of a storage in an unknown way")
    return view[1]


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Storage):
        raise unreadable("it holds a tensor without a storage")
    shape, steps = checked_shape(size), checked_shape(stride)
    if len(shape) != len(steps) or type(offset) is not int or offset < 0:
        raise unreadable("it holds a tensor whose strides do not fit its shape")
    elements = int(np.prod(shape, dtype=object))
    last = offset + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
    if elements > storage.numel or (elements and storage.offset + last >= storage.numel):
        raise too_large(f"a tensor of shape {shape} in a storage of {storage.numel:,} numbers")
    return Tensor(storage, offset, shape, steps)


def _parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise unreadable("it holds a parameter without a tensor")
    return data


def _size(*arguments: Any) -> tuple[int, ...]:
    return checked_shape(*arguments) if arguments else ()


BUILDERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "Size"): _size,
}
