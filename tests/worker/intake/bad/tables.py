"""Tables of cells and genes whose rows have no sound names, and matrices that lie about shape."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.worker.intake import files

from .registry import breaks, replace

TABLES, SHAPES, ENCODINGS = "tables", "shapes", "encodings"


@breaks(TABLES, "/obs", "table-missing")
def obs_missing(file: h5py.File, folder: Path) -> None:
    del file["obs"]


@breaks(TABLES, "/var", "table-missing")
def var_missing(file: h5py.File, folder: Path) -> None:
    del file["var"]


@breaks(TABLES, "/", "table-missing")
def both_tables_missing(file: h5py.File, folder: Path) -> None:
    del file["obs"], file["var"]


@breaks(TABLES, "/obs", "table-index-missing")
def index_missing(file: h5py.File, folder: Path) -> None:
    del file["obs/_index"]


@breaks(TABLES, "/var", "table-index-missing")
def index_called_otherwise(file: h5py.File, folder: Path) -> None:
    file["var"].attrs["_index"] = "gene_ids"


@breaks(TABLES, "/var", "table-index-missing")
def index_by_dots(file: h5py.File, folder: Path) -> None:
    file["var"].attrs["_index"] = "../obs/_index"


@breaks(TABLES, "/obs", "table-missing")
def obs_is_a_row_of_numbers(file: h5py.File, folder: Path) -> None:
    del file["obs"]
    file["obs"] = np.arange(files.CELLS)


@breaks(TABLES, "/obs", "table-missing")
def obs_is_a_named_type(file: h5py.File, folder: Path) -> None:
    del file["obs"]
    file["obs"] = np.dtype("f4")


@breaks(TABLES, "/var", "wrong-dimensions")
def var_is_one_record(file: h5py.File, folder: Path) -> None:
    del file["var"]
    file["var"] = np.zeros((), dtype=[("index", "S8")])


@breaks(TABLES, "/var/index", "names-not-text")
def records_whose_names_are_fractions(file: h5py.File, folder: Path) -> None:
    del file["var"]
    file["var"] = np.zeros(files.GENES, dtype=[("index", "f8"), ("x", "i4")])


@breaks(TABLES, "/var/index", "column-values")
def records_whose_names_are_arrays(file: h5py.File, folder: Path) -> None:
    del file["var"]
    file["var"] = np.zeros(files.GENES, dtype=[("index", "S8", (2,)), ("x", "i4")])


def _names(name: str, make: Callable[[list[str]], Any], code: str, **how: Any) -> None:
    for table in ("obs", "var"):

        def function(file: h5py.File, folder: Path, table: str = table) -> None:
            given = file[f"{table}/_index"].asstr()[...].tolist()
            replace(file, f"{table}/_index", make(given), **how)

        function.__name__ = f"names_of_{table}_{name}"
        breaks(TABLES, f"/{table}/_index", code)(function)


_names("not_utf8", lambda n: np.array([b"\xff\xfe" + x.encode() for x in n]), "damaged-file")
_names("with_nul", lambda n: np.array([b"g\0" + x.encode() for x in n]), "text-with-nul")
_names("fractions", lambda n: np.linspace(0, 1, len(n)), "names-not-text")
_names("in_two_dimensions", lambda n: np.array([n], dtype="S8"), "wrong-dimensions")
_names("of_one_value", lambda n: np.array(b"one"), "wrong-dimensions")
_names("of_truth", lambda n: np.ones(len(n), dtype=bool), "names-not-text")
_names("of_complex_numbers", lambda n: np.ones(len(n), dtype=complex), "column-values")
_names("of_records", lambda n: np.zeros(len(n), dtype=[("a", "S4")]), "column-values")


@breaks(TABLES, "/obs/_index", "damaged-file")
def names_whose_texts_lie_nowhere(file: h5py.File, folder: Path) -> None:
    """Variable-length texts that point to a heap which is not there."""
    del file["obs/_index"]
    made = file.create_dataset("obs/_index", (files.CELLS,), files.TEXT, chunks=(files.CELLS,))
    entry = (9).to_bytes(4, "little") + (2**40).to_bytes(8, "little") + (1).to_bytes(4, "little")
    made.id.write_direct_chunk((0,), entry * files.CELLS)


@breaks(TABLES, "/var/_index", "names-missing")
def names_with_a_mask(file: h5py.File, folder: Path) -> None:
    names = file["var/_index"].asstr()[...].tolist()
    del file["var/_index"]
    group = file.create_group("var/_index")
    group.attrs["encoding-type"] = "nullable-string-array"
    group.create_dataset("values", data=names, dtype=files.TEXT)
    group["mask"] = np.arange(files.GENES) == 2


@breaks(TABLES, "/var/_index", "column-encoding")
def names_that_are_a_table(file: h5py.File, folder: Path) -> None:
    del file["var/_index"]
    files.write_frame(file["var"], "_index", ["a"], [])


@breaks(TABLES, "/X", "shape-mismatch")
def one_cell_too_few(file: h5py.File, folder: Path) -> None:
    del file["obs"]
    files.write_frame(file, "obs", files.names("cell", files.CELLS - 1), [])


@breaks(TABLES, "/X", "shape-mismatch")
def cells_and_genes_exchanged(file: h5py.File, folder: Path) -> None:
    file.move("obs", "other")
    file.move("var", "obs")
    file.move("other", "var")


def _shape(name: str, value: Any, *codes: str, pointer: str = "/X") -> None:
    def function(file: h5py.File, folder: Path) -> None:
        del file["X"].attrs["shape"]
        if value is not None:
            file["X"].attrs["shape"] = value

    function.__name__ = f"shape_{name}"
    breaks(SHAPES, pointer, *codes)(function)


_shape("missing", None, "matrix-shape")
_shape("with_a_row_more", [files.CELLS + 1, files.GENES], "shape-mismatch")
_shape("with_a_gene_more", [files.CELLS, files.GENES + 1], "shape-mismatch")
_shape("exchanged", [files.GENES, files.CELLS], "shape-mismatch")
_shape("of_one_number", [96], "matrix-shape")
_shape("of_three_numbers", [files.CELLS, files.GENES, 1], "matrix-shape")
_shape("in_two_dimensions", [[files.CELLS, files.GENES]], "matrix-shape")
_shape("negative", [-1, files.GENES], "matrix-shape")
_shape("huge", [2**62, 2**62], "too-many-cells")
_shape("beyond_signed", np.array([2**64 - 1, 8], dtype="u8"), "too-many-cells")
_shape("of_fractions", [12.0, 8.0], "matrix-shape")
_shape("of_text", "12 x 8", "matrix-shape")
_shape("of_texts", np.array([b"12", b"8"]), "matrix-shape")
_shape("empty", h5py.Empty("i8"), "matrix-shape")
_shape("of_fifty_million_rows", [50_000_000, files.GENES], "shape-mismatch")
_shape("without_rows", [0, files.GENES], "no-cells")


@breaks(SHAPES, "/X", "wrong-dimensions")
def dense_in_three_dimensions(file: h5py.File, folder: Path) -> None:
    del file["X"]
    file["X"] = np.ones((files.CELLS, files.GENES, 2))


@breaks(SHAPES, "/X", "wrong-dimensions")
def dense_in_one_dimension(file: h5py.File, folder: Path) -> None:
    del file["X"]
    file["X"] = np.ones(files.CELLS)


@breaks(SHAPES, "/X", "placeholder")
def dense_without_a_shape(file: h5py.File, folder: Path) -> None:
    del file["X"]
    file["X"] = h5py.Empty("f4")


@breaks(SHAPES, "/X", "no-cells")
def dense_without_genes(file: h5py.File, folder: Path) -> None:
    del file["X"], file["var"]
    file["X"] = np.ones((files.CELLS, 0))
    files.write_frame(file, "var", [], [])


def _encoding(name: str, *codes: str, **attributes: Any) -> None:
    def function(file: h5py.File, folder: Path) -> None:
        held = file["X"].attrs
        del held["encoding-type"]
        held.update({key.replace("__", "-"): value for key, value in attributes.items()})

    function.__name__ = f"encoding_{name}"
    breaks(ENCODINGS, "/X", *codes)(function)


_encoding("missing", "matrix-encoding")
_encoding("unknown", "matrix-encoding", encoding__type="coo_matrix")
_encoding("awkward", "matrix-encoding", encoding__type="awkward-array")
_encoding("of_a_table", "matrix-encoding", encoding__type="dataframe")
_encoding("with_a_nul", "matrix-encoding", encoding__type=np.bytes_(b"csr\0matrix"))
_encoding("not_utf8", "matrix-encoding", encoding__type=np.bytes_(b"\xff\xfe"))
_encoding("of_numbers", "matrix-encoding", encoding__type=7)
_encoding("twice", "attribute-not-scalar", encoding__type=["csr_matrix", "csc_matrix"])
_encoding("of_a_megabyte", "matrix-encoding", encoding__type="csr" * 10_000)
_encoding("old_and_unknown", "matrix-encoding", h5sparse_format="bsr")
_encoding("old_and_twice", "attribute-not-scalar", h5sparse_format=["csr", "csc"])
_encoding("of_a_record", "matrix-encoding", encoding__type=np.zeros((), dtype=[("a", "i4")]))


@breaks(ENCODINGS, "/X", "matrix-encoding")
def matrix_that_holds_a_matrix(file: h5py.File, folder: Path) -> None:
    file.move("X", "inner")
    file.create_group("X")
    file.move("inner", "X/X")


@breaks(ENCODINGS, "/mod", "other-format")
def several_modalities(file: h5py.File, folder: Path) -> None:
    file.create_group("mod/rna")


@breaks(ENCODINGS, "/X", "unknown-layer")
def matrix_missing(file: h5py.File, folder: Path) -> None:
    del file["X"]
