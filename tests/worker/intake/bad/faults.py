"""Faults that can stand in one file together: each has a part of the file to itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.worker.intake import files

from .registry import replace


@dataclass(frozen=True)
class Fault:
    """One thing wrong, what is told of it, and the part of the file that it takes."""

    code: str
    pointer: str
    part: str
    do: Callable[[h5py.File], Any]


def _value(at: int, value: float) -> Callable[[h5py.File], Any]:
    return lambda file: file["X/data"].__setitem__(at, value)


def _pointer(at: int, value: int) -> Callable[[h5py.File], Any]:
    return lambda file: file["X/indptr"].__setitem__(at, value)


def _fall(file: h5py.File) -> None:
    file["X/indptr"][4] = file["X/indptr"][5] + 1


def _link(name: str, link: Any) -> Callable[[h5py.File], Any]:
    return lambda file: file.__setitem__(f"uns/{name}", link)


def _raw(file: h5py.File) -> None:
    file.create_dataset("uns/raw", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("gone.h5", "X", (4,))
    file.create_virtual_dataset("obsm/X_pca", layout)


def _circle(file: h5py.File) -> None:
    file["uns/again"] = file["uns"]


def _genes(data: Any) -> Callable[[h5py.File], Any]:
    return lambda file: replace(file, "var/_index", data)


def _no_cell_names(file: h5py.File) -> None:
    del file["obs/_index"]


def _repeated_cells(file: h5py.File) -> None:
    file["obs/_index"][5] = "cell4"


def _lost_column(file: h5py.File) -> None:
    file["obs"].attrs["column-order"] = ["sample", "gone"]


def _columns(file: h5py.File) -> None:
    del file["obs/sample/codes"]


POOL = (
    Fault("not-a-number", "/X/data", "value 0", _value(0, np.nan)),
    Fault("infinite-values", "/X/data", "value 1", _value(1, np.inf)),
    Fault("negative-values", "/X/data", "value 2", _value(2, -1)),
    Fault("fractional-values", "/X/data", "value 3", _value(3, 0.5)),
    Fault("values-too-large", "/X/data", "value 4", _value(4, 1e9)),
    Fault("index-out-of-range", "/X/indices", "index", lambda f: f["X/indices"].__setitem__(3, 99)),
    Fault("pointers-begin-late", "/X/indptr", "first", _pointer(0, 1)),
    Fault("pointers-fall", "/X/indptr", "middle", _fall),
    Fault("pointers-end", "/X/indptr", "last", _pointer(-1, 10**6)),
    Fault("external-link", "/uns/out", "uns/out", _link("out", h5py.ExternalLink("gone", "/"))),
    Fault("dangling-link", "/uns/soft", "uns/soft", _link("soft", h5py.SoftLink("/gone"))),
    Fault("external-storage", "/uns/raw", "uns/raw", _raw),
    Fault("virtual-dataset", "/obsm/X_pca", "obsm", _virtual),
    Fault("object-repeated", "/uns/again", "uns/again", _circle),
    Fault("too-deep", "/deep" + "/a" * 32, "deep", lambda f: f.create_group("deep" + "/a" * 40)),
    Fault("names-not-text", "/var/_index", "genes", _genes(np.linspace(0, 1, files.GENES))),
    Fault("text-with-nul", "/var/_index", "genes", _genes(np.array([b"g\0a"] * files.GENES))),
    Fault("wrong-dimensions", "/var/_index", "genes", _genes(np.array([[b"a", b"b"]]))),
    Fault("table-index-missing", "/obs", "cells", _no_cell_names),
    Fault("repeated-cells", "/obs", "cells", _repeated_cells),
    Fault("column-left-out", "/obs/gone", "order", _lost_column),
    Fault("column-left-out", "/obs/sample", "column", _columns),
)
NEEDS_CELLS = frozenset({"column-left-out", "repeated-cells"})


def some_of_them(number: int, seed: int) -> list[Fault]:
    """Faults of as many parts, drawn at random; none that another one hides."""
    chance = np.random.default_rng(seed)
    drawn: list[Fault] = []
    for at in chance.permutation(len(POOL)):
        fault = POOL[at]
        if len(drawn) < number and _is_apart(fault, drawn):
            drawn.append(fault)
    return drawn


def _is_apart(fault: Fault, drawn: list[Fault]) -> bool:
    codes = {each.code for each in drawn}
    if fault.code == "table-index-missing" and codes & NEEDS_CELLS:
        return False
    if fault.code in NEEDS_CELLS and "table-index-missing" in codes:
        return False
    return fault.part not in {each.part for each in drawn}


def write(path: Path, faults: list[Fault]) -> Path:
    files.write_h5ad(path)
    with h5py.File(path, "a") as file:
        file.create_group("uns")
        for fault in faults:
            fault.do(file)
    return path
