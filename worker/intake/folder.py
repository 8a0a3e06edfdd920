"""The folder of a canonical query, written piece by piece."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from app.problems import FileTooLarge
from worker.intake.frames import FILES

ARRAYS = {"indptr.npy": ("<i8", 8), "indices.npy": ("<i4", 4), "data.npy": ("<f4", 4)}
NPY_HEADER = 128


class CanonicalFolder:
    """A sink on disk. Arrays get their .npy header at the end, when their length is known."""

    def __init__(self, folder: Path, *, quota: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._left = quota
        self._files: dict[str, BinaryIO] = {}
        with ExitStack() as stack:
            for name in FILES:
                file = stack.enter_context((folder / name).open("wb"))
                file.write(b"\0" * NPY_HEADER if name in ARRAYS else b"")
                self._files[name] = file
            self._stack = stack.pop_all()

    def write(self, name: str, data: Any) -> None:
        size = memoryview(data).nbytes
        self._left -= size
        if self._left < 0:
            raise FileTooLarge(
                "The counts of this file need more disk space than is free for one query.",
                fix="Free disk space on the server, or upload the cells in several files.",
            )
        if size:
            self._files[name].write(data)

    def progress(self, fraction: float) -> None:
        return None

    def restart(self) -> None:
        for name in ARRAYS:
            file = self._files[name]
            self._left += file.tell() - NPY_HEADER
            file.seek(NPY_HEADER)
            file.truncate()

    def finish(self, report: Mapping[str, Any]) -> None:
        """Write the headers and close. Raises ValueError when an array's length is not reported."""
        n_cells, nnz = int(report["n_cells"]), int(report["nnz"])
        lengths = {"indptr.npy": n_cells + 1, "indices.npy": nnz, "data.npy": nnz}
        with self._stack:
            for name, (dtype, item) in ARRAYS.items():
                size = self._files[name].tell() - NPY_HEADER
                if size != lengths[name] * item:
                    raise ValueError(f"{name} holds {size} bytes, not {lengths[name]} numbers")
                self._files[name].seek(0)
                self._files[name].write(_npy_header(dtype, lengths[name]))

    def close(self) -> None:
        self._stack.close()


def _npy_header(dtype: str, length: int) -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({length},), }}"
    padded = text.ljust(NPY_HEADER - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + (NPY_HEADER - 10).to_bytes(2, "little") + padded.encode()
