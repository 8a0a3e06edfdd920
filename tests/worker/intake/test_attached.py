"""Features beside a matrix: proteins of obsm and other modalities, joined cell by cell."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings

from app.problems import Problem, UnknownLayer, UnreadableFile
from worker.canonical import CanonicalQuery
from worker.intake.attached import Attached, widened
from worker.intake.check import Request, check_upload
from worker.intake.folder import CanonicalFolder
from worker.intake.limits import Limits
from worker.intake.rows import RowBlock
from worker.intake.samples import UploadedFile
from worker.intake.values import Survey

from . import files
from .bad_files import replace
from .cell_ranger_files import write_v3
from .conftest import Checked, check_here
from .test_layouts import arrays

Check = Callable[..., Checked]
PROTEINS = ["CD3", "CD4 ", "gene1"]


def protein_counts(cells: int = files.CELLS) -> np.ndarray:
    return np.random.default_rng(7).poisson(3, size=(cells, len(PROTEINS))).astype(np.float32)


def with_frame(
    path: Path, name: str = "protein_expression", values: np.ndarray | None = None
) -> Path:
    """A sound h5ad with a DataFrame in obsm."""
    values = protein_counts() if values is None else values
    if not path.exists():
        files.write_h5ad(path)
    with h5py.File(path, "a") as file:
        obsm = file.require_group("obsm")
        frame = files.write_frame(obsm, name, files.names("cell", len(values)), PROTEINS)
        for at, protein in enumerate(PROTEINS):
            frame[protein] = values[:, at]
    return path


def with_array(path: Path, name: str = "protein_expression", layout: str = "dense") -> Path:
    """The same as an array, its names in uns."""
    files.write_h5ad(path)
    with h5py.File(path, "a") as file:
        files.write_matrix(file.create_group("obsm"), name, protein_counts(), layout)
        file.create_dataset("uns/protein_names", data=PROTEINS, dtype=files.TEXT)
    return path


def whole(query: CanonicalQuery) -> np.ndarray:
    return query.rows(0, query.n_cells).toarray()


def codes(report: dict[str, Any]) -> list[str]:
    return [each["code"] for each in report["problems"]]


def expected(proteins: np.ndarray | None = None) -> np.ndarray:
    return np.hstack([files.counts(), protein_counts() if proteins is None else proteins])


@pytest.mark.parametrize(
    "write",
    [
        with_frame,
        with_array,
        lambda path: with_array(path, layout="csr"),
        lambda path: with_array(path, layout="csc"),
        lambda path: with_frame(path, "ADT_counts"),
    ],
)
def test_proteins_of_obsm_are_features(
    write: Callable[[Path], Path], check: Check, tmp_path: Path
) -> None:
    report, query = check(write(tmp_path / "query.h5ad"))
    assert (whole(query) == expected()).all()
    genes = query.genes()
    assert genes.count_kinds() == report["features"] == {"gene": files.GENES, "protein": 3}
    assert query.gene_columns()["index"][files.GENES :] == PROTEINS
    assert report["n_genes"] == query.n_genes == files.GENES + 3
    # A protein that is called as a gene is no repeat of it.
    assert codes(report) == ["features-joined", "other-features"]
    assert report["dropped"]["obsm"] == []


def test_plain_genes_stay_the_same_bytes(tmp_path: Path) -> None:
    """A table that is left out changes nothing of the canonical query but what is listed."""
    check_here(files.write_h5ad(tmp_path / "plain.h5ad"), tmp_path / "plain")
    path = with_frame(tmp_path / "query.h5ad", "X_pca")
    report, query = check_here(path, tmp_path / "beside")
    assert arrays(tmp_path / "plain") == arrays(tmp_path / "beside")
    for name in ("genes.json", "obs.arrow"):
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "beside" / name).read_bytes()
    assert report["dropped"]["obsm"] == ["X_pca"]
    assert report["features"] == {"gene": files.GENES}
    assert query.genes().kinds is None


def test_the_caller_says_which_table(check: Check, tmp_path: Path) -> None:
    path = with_frame(tmp_path / "query.h5ad", "X_tags", protein_counts() + 1)
    with_frame(path)
    report, query = check(path, proteins_key="X_tags")
    assert (whole(query) == expected(protein_counts() + 1)).all()
    assert report["dropped"]["obsm"] == ["protein_expression"]
    with pytest.raises(UnknownLayer, match="`X_tags`, `protein_expression`") as caught:
        check(path, proteins_key="none")
    assert caught.value.errors[0]["code"] == "unknown-proteins"


def test_of_two_that_may_be_it_neither_is_taken(check: Check, tmp_path: Path) -> None:
    path = with_frame(tmp_path / "query.h5ad", "adt_raw")
    with_frame(path, "protein_other")
    report, query = check(path)
    assert query.n_genes == files.GENES
    assert codes(report) == ["proteins-ambiguous"]
    # With one of them no counts, the other is unmistakable.
    with h5py.File(path, "a") as file:
        replace(file, "obsm/adt_raw/CD3", np.full(files.CELLS, 0.5))
    report, query = check(path)
    assert (whole(query) == expected()).all()
    assert report["dropped"]["obsm"] == ["adt_raw"]


def test_names_of_an_array_are_where_the_caller_says(check: Check, tmp_path: Path) -> None:
    path = with_array(tmp_path / "query.h5ad", "adt")
    with h5py.File(path, "a") as file:
        file.move("uns/protein_names", "uns/mine")
    report, _ = check(path)
    assert codes(report) == ["features-left-out"]
    _, query = check(path, proteins_key="adt", protein_names_key="mine")
    assert query.gene_columns()["index"][files.GENES :] == PROTEINS


def at(path: str, values: Any) -> Callable[[h5py.File], None]:
    return lambda file: replace(file, f"obsm/protein_expression/{path}", values)


BAD: dict[str, tuple[str, Callable[[h5py.File], Any]]] = {
    "short column": ("wrong-length", at("CD3", np.ones(files.CELLS - 1))),
    "long column": ("wrong-length", at("CD3", np.ones(files.CELLS + 1))),
    "two dimensions": ("wrong-dimensions", at("CD3", np.ones((files.CELLS, 1)))),
    "text": ("not-numbers", at("CD3", np.array(["a"] * files.CELLS, dtype="S"))),
    "negative": ("negative-values", at("CD3", np.full(files.CELLS, -1.0))),
    "fractions": ("fractional-values", at("CD3", np.full(files.CELLS, 0.5))),
    "not a number": ("not-a-number", at("CD3", np.full(files.CELLS, np.nan))),
    "infinite": ("infinite-values", at("CD3", np.full(files.CELLS, np.inf))),
    "too large": ("values-too-large", at("CD3", np.full(files.CELLS, 2.0**25))),
    "missing column": ("missing-array",
                       lambda file: file.__delitem__("obsm/protein_expression/CD3")),
    "fewer rows": ("shape-mismatch",
                   at("_index", np.array(files.names("cell", files.CELLS - 1), dtype="S"))),
    "other cells": ("shape-mismatch",
                    at("_index", np.array(files.names("cell", files.CELLS)[::-1], dtype="S"))),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_table_is_refused_where_it_was_asked_for_and_else_left_out(
    name: str, check: Check, tmp_path: Path
) -> None:
    code, break_it = BAD[name]
    path = with_frame(tmp_path / "query.h5ad")
    with h5py.File(path, "a") as file:
        break_it(file)
    report, query = check(path)
    assert codes(report) == ["features-left-out"]
    assert (whole(query) == files.counts()).all()
    assert report["dropped"]["obsm"] == ["protein_expression"]
    with pytest.raises(Problem) as caught:
        check(path, proteins_key="protein_expression")
    assert code in {each["code"] for each in caught.value.errors}


BAD_ARRAYS: dict[str, tuple[str, Callable[[h5py.File], Any]]] = {
    "rows": ("shape-mismatch",
             lambda file: replace(file, "obsm/protein_expression", protein_counts(5))),
    "one dimension": ("wrong-dimensions",
                      lambda file: replace(file, "obsm/protein_expression", np.ones(files.CELLS))),
    "names": ("wrong-length",
              lambda file: replace(file, "uns/protein_names", np.array(["a"], dtype="S"))),
    "names repeat": ("features-repeat", lambda file: replace(
        file, "uns/protein_names", np.array(["a", "b", "a"], dtype="S"))),
    "numbers for names": ("names-not-text", lambda file: replace(
        file, "uns/protein_names", np.arange(3))),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_a_bad_array_likewise(name: str, check: Check, tmp_path: Path) -> None:
    code, break_it = BAD_ARRAYS[name]
    path = with_array(tmp_path / "query.h5ad")
    with h5py.File(path, "a") as file:
        break_it(file)
    assert codes(check(path)[0]) == ["features-left-out"]
    with pytest.raises(Problem) as caught:
        check(path, proteins_key="protein_expression")
    assert code in {each["code"] for each in caught.value.errors}


def test_a_sparse_table_with_damaged_pointers(check: Check, tmp_path: Path) -> None:
    path = with_array(tmp_path / "query.h5ad", layout="csr")
    with h5py.File(path, "a") as file:
        file["obsm/protein_expression/indices"][0] = 99
    assert codes(check(path)[0]) == ["features-left-out"]
    with pytest.raises(UnreadableFile, match="outside the 3 positions"):
        check(path, proteins_key="protein_expression")


def test_entries_that_add_up_to_too_much(check: Check, tmp_path: Path) -> None:
    """Each of the two is allowed, and their sum is not."""
    path = with_array(tmp_path / "query.h5ad", layout="csr")
    cells = np.arange(files.CELLS + 1)
    with h5py.File(path, "a") as file:
        table = "obsm/protein_expression"
        replace(file, f"{table}/data", np.full(2 * files.CELLS, 2.0**24, dtype=np.float32))
        replace(file, f"{table}/indices", np.zeros(2 * files.CELLS, dtype=np.int32))
        replace(file, f"{table}/indptr", 2 * cells)
    report, query = check(path)
    assert codes(report) == ["features-left-out"]
    assert (whole(query) == files.counts()).all()
    with pytest.raises(Problem, match="'CD3' in row 0") as caught:
        check(path, proteins_key="protein_expression")
    assert [each["code"] for each in caught.value.errors] == ["values-too-large"]
    uploaded = [UploadedFile(path), UploadedFile(files.write_h5ad(tmp_path / "other.h5ad"))]
    sink = CanonicalFolder(tmp_path / "canonical", quota=2**40)
    report = check_upload(uploaded, Request(), Limits(), sink)
    sink.finish(report)
    assert "features-left-out" in codes(report)


def test_many_names_are_looked_through_once() -> None:
    names = [f"p{at}" for at in range(40_000)]
    attached = Attached("x", "/x", ["adt"] * 40_001, [*names, names[-1]], 1, lambda _: iter(()))
    begun = time.process_time()
    with pytest.raises(Problem, match="'p39999' more than once"):
        attached.proved()
    assert time.process_time() - begun < 3


def test_in_the_sandbox(sandboxed: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    report = sandboxed(
        with_frame(tmp_path / "query.h5ad", "tags"), proteins_key="tags", input="counts"
    )
    assert report["features"]["protein"] == 3


def test_types_of_the_matrix_itself(check: Check, tmp_path: Path) -> None:
    types = ["Gene Expression"] * 4 + ["Peaks"] * 2 + ["Antibody Capture", "CRISPR Guide Capture"]
    path = write_v3(tmp_path / "query.h5", extra={"feature_type": types})
    report, query = check(path)
    assert report["features"] == {"gene": 4, "region": 2, "protein": 1}
    assert query.genes().rows_of("region") == [4, 5]
    assert query.genes().left_out == {4, 5, 6, 7}


def test_a_table_beside_proteins_of_the_matrix_is_another_form_of_them(
    check: Check, tmp_path: Path
) -> None:
    path = with_frame(tmp_path / "query.h5ad")
    with h5py.File(path, "a") as file:
        kinds = files.write_frame  # the var table is written anew, with a column of types
        del file["var"]
        var = kinds(file, "var", files.names("gene", files.GENES), ["modality"])
        files.write_categorical(var, "modality", [0] * 6 + [1] * 2, ["rna", "protein"])
    report, query = check(path)
    assert report["features"] == {"gene": 6, "protein": 2}
    assert query.n_genes == files.GENES


def with_antibodies(group: h5py.Group, prefix: str = "gene") -> None:
    """Of the features of var the last two become antibodies."""
    del group["var"]
    names = [*files.names(prefix, files.GENES - 2), *PROTEINS[:2]]
    var = files.write_frame(group, "var", names, ["feature_types"])
    types = ["Gene Expression", "Antibody Capture"]
    files.write_categorical(var, "feature_types", [0] * 6 + [1] * 2, types)


def test_proteins_of_raw_come_before_a_table_of_them(check: Check, tmp_path: Path) -> None:
    path = with_frame(tmp_path / "query.h5ad")
    with h5py.File(path, "a") as file:
        raw = file.create_group("raw")
        files.write_matrix(raw, "X", files.counts(seed=3), "csr")
        files.write_frame(raw, "var", [], [])
        with_antibodies(raw)
    report, query = check(path)
    assert (report["counts_from"], report["features"]) == ("raw/X", {"gene": 6, "protein": 2})
    assert (whole(query) == files.counts(seed=3)).all()
    assert report["dropped"]["obsm"] == ["protein_expression"]
    with pytest.raises(Problem) as caught:
        check(path, proteins_key="protein_expression")
    assert [each["code"] for each in caught.value.errors] == ["features-repeat"]
    # Of a matrix without them they are the table's.
    assert (whole(check(path, layer="X")[1]) == expected()).all()
    with h5py.File(path, "a") as file:
        files.write_matrix(file.create_group("layers"), "counts", files.counts(), "csr")
    assert (whole(check(path)[1]) == expected()).all()
    assert (whole(check(path, layer="raw/X")[1]) == files.counts(seed=3)).all()


def test_several_files_have_their_proteins_joined(tmp_path: Path) -> None:
    first = with_frame(tmp_path / "first.h5ad")
    second = files.write_h5ad(tmp_path / "second.h5ad")
    third = with_array(tmp_path / "third.h5ad", "adt")
    with h5py.File(third, "a") as file:
        replace(file, "uns/protein_names", np.array(["gene1", "CD8", "CD3"], dtype="S"))
    sink = CanonicalFolder(tmp_path / "canonical", quota=2**40)
    uploaded = [UploadedFile(path) for path in (first, second, third)]
    report = check_upload(uploaded, Request(), Limits(), sink)
    sink.finish(report)
    query = CanonicalQuery.open(tmp_path / "canonical")
    assert query.gene_columns()["index"][files.GENES :] == [*PROTEINS, "CD8"]
    proteins = np.zeros((3 * files.CELLS, 4))
    proteins[: files.CELLS, :3] = protein_counts()
    proteins[2 * files.CELLS :, [2, 3, 0]] = protein_counts()
    genes = np.vstack([files.counts()] * 3)
    assert (whole(query) == np.hstack([genes, proteins])).all()


Cells = st.lists(st.integers(0, 9), unique=True, min_size=1)


def rows_of(matrix: np.ndarray, step: int) -> Iterator[RowBlock]:
    for first in range(0, len(matrix), step):
        part = sp.csr_matrix(matrix[first : first + step])
        yield RowBlock(first, part.indptr, part.indices, part.data)


@given(
    order=Cells, cells=st.integers(1, 12), step=st.integers(1, 5), other=st.integers(1, 5),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_rows_meet_their_cells_in_any_order_and_any_blocks(
    order: Sequence[int], cells: int, step: int, other: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    main, beside = rng.poisson(0.5, (cells, 3)), rng.poisson(0.5, (len(order), 2))
    rows = np.full(cells, -1)
    for row, cell in enumerate(order):
        if cell < cells:
            rows[cell] = row

    def read(survey: Survey) -> Iterator[RowBlock]:
        return rows_of(beside, other)

    attached = Attached("x", "/x", ["adt"] * 2, ["a", "b"], len(beside), read).proved()
    joined = Attached(
        attached.name, attached.path, attached.types, attached.names, attached.n_rows, read,
        attached.sizes, rows,
    )  # fmt: skip
    found = np.zeros((cells, 5))
    for block in widened(rows_of(main, step), 3, [joined], Limits()):
        part = sp.csr_matrix((block.values, block.indices, block.indptr), shape=(len(block), 5))
        found[block.first : block.first + len(block)] = part.toarray()
    there = rows >= 0
    assert (found[:, :3] == main).all()
    assert (found[there, 3:] == beside[rows[there]]).all()
    assert not found[~there, 3:].any()


def test_cells_in_another_order_are_bounded() -> None:
    def read(survey: Survey) -> Iterator[RowBlock]:
        return rows_of(np.ones((20, 2)), 5)

    attached = Attached("x", "/x", ["adt"] * 2, ["a", "b"], 20, read).proved()
    turned = Attached(
        "x", "/x", attached.types, attached.names, 20, read, attached.sizes, np.arange(20)[::-1]
    )
    with pytest.raises(Problem, match="in another order"):
        list(widened(rows_of(np.ones((20, 3)), 5), 3, [turned], Limits(memory_bytes=32 * 39)))


def test_proteins_beside_a_matrix_make_no_genes_of_its_peaks(check: Check, tmp_path: Path) -> None:
    _, query = check(with_frame(tmp_path / "query.h5ad"))
    n_features = query.n_genes - len(PROTEINS)
    assert list(query.genes().regions()) == list(range(n_features))
    assert list(query.genes().rows_of("gene")) == list(range(n_features))
