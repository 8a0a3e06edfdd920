"""What a check has to say: every problem it could find, and the warnings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from app.problems import FileTooLarge, Problem, UnreadableFile
from worker.names import readable

COPY_AGAIN = (
    "Check that the file opens with anndata.read_h5ad, write it again with write_h5ad, and "
    "upload that."
)


def located(kind: type[Problem], pointer: str, detail: str, fix: str = COPY_AGAIN) -> Problem:
    """A problem that points at one place in the file."""
    pointer, detail = readable(pointer), readable(detail)
    return kind(detail, fix=fix, errors=[{"pointer": pointer, "detail": detail}])


class Findings:
    """Problems are collected, so that one upload tells all that is wrong with a file."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[dict[str, str]] = []

    def warn(self, code: str, pointer: str, detail: str, fix: str) -> None:
        told = {"code": code, "detail": detail, "fix": fix, "pointer": pointer}
        self.warnings.append({key: readable(text) for key, text in told.items()})

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Keep a problem for the end instead of stopping at it."""
        try:
            yield
        except Problem as problem:
            self.problems.append(problem)

    def raise_problems(self) -> None:
        """Raise the first problem; its `errors` list what every problem found."""
        if not self.problems:
            return
        first, *others = self.problems
        first.errors.extend(error for other in others for error in other.errors)
        if others:
            first.detail += f" (One of {len(first.errors)} findings; see `errors`.)"
        raise first


@contextmanager
def reading(pointer: str) -> Iterator[None]:
    """Turn what the HDF5 library says about a damaged file into a problem at `pointer`."""
    try:
        yield
    except Problem:
        raise
    except MemoryError as error:
        raise too_large(pointer) from error
    except Exception as error:  # h5py raises almost any class on damaged bytes
        if "allocat" in str(error) and "memory" in str(error):
            raise too_large(pointer) from error
        said = " ".join(str(error).split())[:200]
        raise located(
            UnreadableFile, pointer, f"{pointer} cannot be read; the HDF5 library says: {said}"
        ) from error


def too_large(pointer: str) -> Problem:
    return located(
        FileTooLarge,
        pointer,
        f"Reading {pointer} needs more memory than a check may use.",
        "Store the counts as a sparse matrix in chunks of ordinary size (write_h5ad does so), "
        "or upload the cells in several files.",
    )
