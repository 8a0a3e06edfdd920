"""Files that must be refused, each with the type of its problem and where it points."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from . import files

Break = Callable[[h5py.File, Path], None]
BROKEN: dict[str, tuple[str, str, Break]] = {}
"""name: problem type, pointer, and what breaks a sound file."""


def breaks(problem: str, pointer: str) -> Callable[[Break], Break]:
    def note(function: Break) -> Break:
        BROKEN[function.__name__] = (problem, pointer, function)
        return function

    return note


def replace(file: h5py.File, path: str, data: object, **how: object) -> None:
    attributes = dict(file[path].attrs)
    del file[path]
    file.create_dataset(path, data=data, **how).attrs.update(attributes)


# Links and storage that lead out of the file


@breaks("unsupported-file", "/X")
def external_link(file: h5py.File, folder: Path) -> None:
    other = files.write_h5ad(folder / "other.h5ad")
    del file["X"]
    file["X"] = h5py.ExternalLink(str(other), "/X")


@breaks("unsupported-file", "/uns/deep/secret")
def external_link_in_uns(file: h5py.File, folder: Path) -> None:
    file.create_group("uns/deep")["secret"] = h5py.ExternalLink("/etc/passwd", "/")


@breaks("unsupported-file", "/X/data")
def external_storage(file: h5py.File, folder: Path) -> None:
    secret = folder / "secret"
    secret.write_bytes(b"\0" * 4096)
    del file["X/data"]
    file["X"].create_dataset("data", (8,), "f4", external=[(str(secret), 0, 32)])


@breaks("unsupported-file", "/X")
def virtual_dataset(file: h5py.File, folder: Path) -> None:
    other = folder / "source.h5"
    with h5py.File(other, "w") as source:
        source["X"] = files.counts()
    layout = h5py.VirtualLayout((files.CELLS, files.GENES), "f4")
    layout[:] = h5py.VirtualSource(str(other), "X", (files.CELLS, files.GENES))
    del file["X"]
    file.create_virtual_dataset("X", layout)


@breaks("unsupported-file", "/X")
def dangling_soft_link(file: h5py.File, folder: Path) -> None:
    del file["X"]
    file["X"] = h5py.SoftLink("/layers/nowhere")


@breaks("unsupported-file", "/X")
def soft_link_to_itself(file: h5py.File, folder: Path) -> None:
    del file["X"]
    file["X"] = h5py.SoftLink("/X")


@breaks("unsupported-file", "/" + "a/" * 32 + "a")
def deep_nesting(file: h5py.File, folder: Path) -> None:
    file.create_group("a/" * 40)


@breaks("unsupported-file", "/X/data")
def unknown_filter(file: h5py.File, folder: Path) -> None:
    data = file["X/data"][:]
    replace(file, "X/data", data, chunks=True, scaleoffset=3)


# Sizes


@breaks("file-too-large", "/X")
def declares_a_million_by_a_million(file: h5py.File, folder: Path) -> None:
    del file["X"]
    file.create_dataset("X", (10**6, 10**6), "f4", chunks=(1000, 1000))


@breaks("file-too-large", "/X/data")
def gzip_bomb(file: h5py.File, folder: Path) -> None:
    del file["X/data"]
    bomb = file["X"].create_dataset(
        "data", (2**28,), "f4", chunks=(2**24,), compression="gzip", compression_opts=1
    )
    zeros = np.zeros(2**24, dtype=np.float32)
    for chunk in range(2):
        bomb[chunk * 2**24 : (chunk + 1) * 2**24] = zeros


@breaks("file-too-large", "/X/indices")
def enormous_chunk(file: h5py.File, folder: Path) -> None:
    del file["X/indices"]
    file["X"].create_dataset("indices", (8,), "i4", chunks=(2**26,), maxshape=(None,))


@breaks("file-too-large", "/obs/_index")
def fixed_strings_of_a_gigabyte(file: h5py.File, folder: Path) -> None:
    del file["obs/_index"]
    file["obs"].create_dataset("_index", (files.CELLS,), "S100000000", chunks=(1,))


# The matrix


def _indptr(change: Callable[[np.ndarray], object]) -> Break:
    def function(file: h5py.File, folder: Path) -> None:
        indptr = file["X/indptr"][:].astype(np.int64)
        change(indptr)
        replace(file, "X/indptr", indptr)

    return function


def _set(position: int, value: int) -> Callable[[np.ndarray], object]:
    return lambda array: array.__setitem__(position, value)


for name, change in {
    "indptr_begins_late": _set(0, 1),
    "indptr_ends_early": _set(-1, 3),
    "indptr_ends_late": _set(-1, 2**40),
    "indptr_falls": _set(5, 2**30),
    "indptr_negative": _set(3, -7),
}.items():
    BROKEN[name] = ("unreadable-file", "/X/indptr", _indptr(change))


@breaks("unreadable-file", "/X/indptr")
def indptr_short(file: h5py.File, folder: Path) -> None:
    replace(file, "X/indptr", file["X/indptr"][:-2])


@breaks("unreadable-file", "/X/indptr")
def indptr_of_floats(file: h5py.File, folder: Path) -> None:
    replace(file, "X/indptr", file["X/indptr"][:].astype(float))


@breaks("unreadable-file", "/X/indices")
def index_beyond_the_genes(file: h5py.File, folder: Path) -> None:
    file["X/indices"][2] = files.GENES


@breaks("unreadable-file", "/X/indices")
def index_negative(file: h5py.File, folder: Path) -> None:
    file["X/indices"][2] = -1


@breaks("unreadable-file", "/X/indices")
def indices_of_strings(file: h5py.File, folder: Path) -> None:
    replace(file, "X/indices", np.array([b"a"] * file["X/data"].size))


@breaks("unreadable-file", "/X/indices")
def indices_shorter_than_data(file: h5py.File, folder: Path) -> None:
    replace(file, "X/indices", file["X/indices"][:-1])


@breaks("unreadable-file", "/X/data")
def data_missing(file: h5py.File, folder: Path) -> None:
    del file["X/data"]


@breaks("unreadable-file", "/X/data")
def data_of_strings(file: h5py.File, folder: Path) -> None:
    replace(file, "X/data", np.array([b"1"] * file["X/data"].size))


@breaks("unreadable-file", "/X/data")
def data_complex(file: h5py.File, folder: Path) -> None:
    replace(file, "X/data", file["X/data"][:].astype(complex))


@breaks("unreadable-file", "/X")
def shape_missing(file: h5py.File, folder: Path) -> None:
    del file["X"].attrs["shape"]


@breaks("unreadable-file", "/X")
def shape_negative(file: h5py.File, folder: Path) -> None:
    file["X"].attrs["shape"] = np.array([-1, 5])


@breaks("unreadable-file", "/X")
def shape_differs_from_tables(file: h5py.File, folder: Path) -> None:
    file["X"].attrs["shape"] = np.array([files.CELLS + 1, files.GENES])


@breaks("unreadable-file", "/X")
def matrix_of_three_dimensions(file: h5py.File, folder: Path) -> None:
    del file["X"]
    file["X"] = np.ones((2, 3, 4))


@breaks("unreadable-file", "/X")
def matrix_of_unknown_encoding(file: h5py.File, folder: Path) -> None:
    file["X"].attrs["encoding-type"] = "awkward-array"


def _value(value: float) -> Break:
    def function(file: h5py.File, folder: Path) -> None:
        file["X/data"][4] = value

    return function


for name, value in {
    "value_nan": np.nan,
    "value_infinite": np.inf,
    "value_negative": -1.0,
    "value_fractional": 1.5,
    "value_enormous": 3e38,
}.items():
    BROKEN[name] = ("not-counts", "/X/data", _value(value))


@breaks("not-counts", "/X")
def all_values_zero(file: h5py.File, folder: Path) -> None:
    file["X/data"][:] = 0


# The tables


@breaks("unreadable-file", "/obs")
def obs_missing(file: h5py.File, folder: Path) -> None:
    del file["obs"]


@breaks("unreadable-file", "/obs")
def index_missing(file: h5py.File, folder: Path) -> None:
    del file["obs/_index"]


@breaks("unreadable-file", "/var/_index")
def gene_names_not_utf8(file: h5py.File, folder: Path) -> None:
    replace(file, "var/_index", np.array([b"\xff\xfe%d" % i for i in range(files.GENES)]))


@breaks("unreadable-file", "/var/_index")
def gene_names_are_fractions(file: h5py.File, folder: Path) -> None:
    replace(file, "var/_index", np.linspace(0, 1, files.GENES))


@breaks("unknown-layer", "/X")
def matrix_missing(file: h5py.File, folder: Path) -> None:
    del file["X"]


@breaks("no-cells", "/X")
def no_cells(file: h5py.File, folder: Path) -> None:
    for name in ("X", "obs"):
        del file[name]
    files.write_matrix(file, "X", np.zeros((0, files.GENES)), "csr")
    files.write_frame(file, "obs", [], [])


# Other formats


@breaks("unreadable-file", "/mod/rna/obs")
def mudata(file: h5py.File, folder: Path) -> None:
    file.create_group("mod/rna")
