"""Where a file keeps its matrices, and which of them the caller means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from app.problems import Problem
from worker.intake.findings import located
from worker.intake.limits import Limits
from worker.intake.source import Source

Layout = Literal["csr", "csc", "dense"]
LAYOUTS: dict[str, Layout] = {"csr_matrix": "csr", "csc_matrix": "csc", "csr": "csr", "csc": "csc"}


@dataclass(frozen=True)
class Matrix:
    """A cells-by-genes matrix: its public name, its place, and the table of its genes."""

    name: str
    path: str
    var_path: str
    layout: Layout
    shape: tuple[int, int]


def available(source: Source, root: str = "") -> list[str]:
    """The names by which the matrices below `root` can be asked for."""
    names = ["X"] if source.has(f"{root}/X") else []
    layers = f"{root}/layers"
    names += [f"layers/{name}" for name in source.keys(layers)] if source.has(layers) else []
    raw = source.has(f"{root}/raw/X") or source.has(f"{root}/raw.X")
    return names + (["raw/X"] if raw else [])


USUAL_LAYERS = ("counts", "raw_counts", "umi", "UMI", "raw", "count")


def usual_places(source: Source, root: str = "") -> list[str]:
    """Where raw counts are usually kept, in the order in which they are looked for."""
    names = available(source, root)
    usual = [f"layers/{layer}" for layer in USUAL_LAYERS]
    return [name for name in (*usual, "raw/X", "X") if name in names]


def locate(source: Source, layer: str | None, root: str = "") -> Matrix:
    """The matrix below `root` that the caller named; X when none was.

    Raises:
        Problem: the file has no such matrix, or what stands there is none.
    """
    name = _public_name(layer)
    path, var_path = _place(source, name, root)
    if not source.has(path):
        raise _unknown(source, name, root)
    return matrix_at(source, name, path, var_path)


def matrix_at(source: Source, name: str, path: str, var_path: str) -> Matrix:
    """The matrix that stands at `path`.

    Raises:
        Problem: what stands there is none.
    """
    if source.is_group(path):
        return _sparse(source, name, path, var_path)
    dataset = source.dataset(path)
    if dataset.ndim != 2:
        raise located("wrong-dimensions", path, f"{path} has {dataset.ndim} dimensions, not two.")
    return Matrix(name, path, var_path, "dense", (int(dataset.shape[0]), int(dataset.shape[1])))


def _public_name(layer: str | None) -> str:
    asked = (layer or "X").strip("/")
    if asked in {"X", "raw/X"} or asked.startswith("layers/"):
        return asked
    return "raw/X" if asked in {"raw", "raw.X"} else f"layers/{asked}"


def _place(source: Source, name: str, root: str) -> tuple[str, str]:
    if name != "raw/X":
        return f"{root}/{name}", f"{root}/var"
    # anndata 0.6 kept them at the top, with a full stop in the name.
    kept = "raw." if source.has(f"{root}/raw.X") else "raw/"
    return f"{root}/{kept}X", f"{root}/{kept}var"


def _unknown(source: Source, name: str, root: str) -> Problem:
    names = available(source, root)
    offered = ", ".join(f"`{each}`" for each in names[:20]) or "no matrix at all"
    fix = (
        f"Name one of them with layer=..., for example layer={names[0]}."
        if names
        else ("Upload a file with counts in X.")
    )
    return located(
        "unknown-layer",
        f"{root}/{name}",
        f"The file has no matrix `{name}`; it has {offered}.",
        fix,
    )


def _sparse(source: Source, name: str, path: str, var_path: str) -> Matrix:
    encoding = source.scalar(path, "encoding-type") or source.scalar(path, "h5sparse_format")
    layout = LAYOUTS.get(str(encoding))
    if layout is None:
        raise located("matrix-encoding", path, f"{path} is stored as {encoding!r}: no matrix.")
    shape = source.attribute(path, "shape")
    if shape is None:
        shape = source.attribute(path, "h5sparse_shape")
    sizes = np.atleast_1d(shape) if shape is not None else np.empty(0)
    if sizes.shape != (2,) or sizes.dtype.kind not in "iu" or int(sizes.min()) < 0:
        raise located("matrix-shape", path, f"{path} does not say its shape: {shape!r}.")
    return Matrix(name, path, var_path, layout, (int(sizes[0]), int(sizes[1])))


def check_size(matrix: Matrix, limits: Limits) -> None:
    """Raises Problem for a matrix with too many rows or columns, or none."""
    n_cells, n_genes = matrix.shape
    if n_cells > limits.cells or n_genes > limits.genes:
        raise located(
            "too-many-cells",
            matrix.path,
            f"`{matrix.name}` has {n_cells:,} cells and {n_genes:,} genes; the limits are "
            f"{limits.cells:,} and {limits.genes:,}.",
            "Upload the cells in several files.",
        )
    if not n_cells or not n_genes:
        raise located(
            "no-cells",
            matrix.path,
            f"`{matrix.name}` has {n_cells:,} cells and {n_genes:,} genes: nothing to map.",
            "Check the filter that was applied before the file was written.",
        )
