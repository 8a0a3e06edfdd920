"""Proteins that stand in a table of obsm, and in the matrix where the counts are found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from app.problems import UnreadableFile
from worker.canonical import CanonicalQuery
from worker.intake.check import Request, check_upload
from worker.intake.folder import CanonicalFolder
from worker.intake.limits import Limits
from worker.intake.samples import UploadedFile

from . import files
from .conftest import Checked
from .test_attached import PROTEINS, codes, protein_counts, whole, with_antibodies, with_frame

Check = Callable[..., Checked]
GENES = files.GENES - 2


def raw_counts(*, same: bool) -> np.ndarray:
    """The last two columns are those of the table, or others."""
    counts = files.counts(seed=3)
    counts[:, GENES:] = protein_counts()[:, :2]
    if not same:
        counts[5, GENES + 1] += 2
    return counts


def with_second(path: Path, *, same: bool = True) -> Path:
    """A table of obsm, a layer that is no counts, and proteins in raw, where the counts are."""
    with_frame(path)
    with h5py.File(path, "a") as file:
        layers = file.create_group("layers")
        files.write_matrix(layers, "counts", np.log1p(files.counts()), "csr")
        raw = file.create_group("raw")
        files.write_matrix(raw, "X", raw_counts(same=same), "csr")
        files.write_frame(raw, "var", [], [])
        with_antibodies(raw)
    return path


def told(report: dict[str, Any], code: str) -> dict[str, Any]:
    (found,) = (each for each in report["problems"] if each["code"] == code)
    return dict(found)


@pytest.mark.parametrize("same", [True, False])
def test_a_table_that_nobody_asked_for_is_left(same: bool, check: Check, tmp_path: Path) -> None:
    report, query = check(with_second(tmp_path / "query.h5ad", same=same))
    assert (report["counts_from"], report["features"]) == ("raw/X", {"gene": 6, "protein": 2})
    assert (whole(query) == raw_counts(same=same)).all()
    assert report["n_genes"] == query.n_genes == files.GENES
    assert report["dropped"]["obsm"] == ["protein_expression"]
    assert codes(report) == ["features-left-out", "other-features"]
    assert "`raw/X`, where the counts are" in told(report, "features-left-out")["detail"]


@pytest.mark.parametrize("layer", [None, "raw/X"])
def test_the_same_counts_are_taken_once(layer: str | None, check: Check, tmp_path: Path) -> None:
    path = with_second(tmp_path / "query.h5ad")
    report, query = check(path, layer=layer, proteins_key="protein_expression")
    # Of the table's three proteins the matrix has two.
    assert (whole(query) == np.hstack([raw_counts(same=True), protein_counts()[:, 2:]])).all()
    assert report["features"] == query.genes().count_kinds() == {"gene": 6, "protein": 3}
    assert query.gene_columns()["index"][GENES:] == PROTEINS
    assert report["n_genes"] == query.n_genes == files.GENES + 1
    assert report["dropped"]["obsm"] == []
    assert codes(report) == ["features-twice", "features-joined", "other-features"]
    assert "same counts of 2 proteins, such as 'CD3'" in told(report, "features-twice")["detail"]
    assert told(report, "features-joined")["detail"].startswith("1 proteins")


def test_other_counts_are_refused_with_what_to_do(check: Check, tmp_path: Path) -> None:
    path = with_second(tmp_path / "query.h5ad", same=False)
    there = protein_counts()[5, 1]
    with pytest.raises(UnreadableFile) as caught:
        check(path, proteins_key="protein_expression")
    (finding,) = caught.value.errors
    assert finding["code"] == "features-repeat"
    assert f"'CD4 ' differently: {there + 2:g} and {there:g} in row 5" in finding["detail"]
    assert "Leave proteins_key out" in finding["fix"]
    # As it says: a matrix without proteins takes the table's.
    report, _ = check(path, layer="X", proteins_key="protein_expression")
    assert report["features"] == {"gene": files.GENES, "protein": 3}


def test_a_table_that_adds_nothing_to_the_matrix(check: Check, tmp_path: Path) -> None:
    path = with_second(tmp_path / "query.h5ad")
    with h5py.File(path, "a") as file:
        table = file["obsm/protein_expression"]
        del table[PROTEINS[2]]
        table.attrs["column-order"] = np.array(PROTEINS[:2], dtype=object)
    report, query = check(path, proteins_key="protein_expression")
    assert (whole(query) == raw_counts(same=True)).all()
    assert codes(report) == ["features-twice", "other-features"]


def test_of_several_files(tmp_path: Path) -> None:
    paths = [with_second(tmp_path / f"{name}.h5ad") for name in "ab"]
    sink = CanonicalFolder(tmp_path / "canonical", quota=2**40)
    report = check_upload([UploadedFile(path) for path in paths], Request(), Limits(), sink)
    sink.finish(report)
    query = CanonicalQuery.open(tmp_path / "canonical")
    assert (whole(query) == np.vstack([raw_counts(same=True)] * 2)).all()
    asked = Request(proteins_key="protein_expression")
    sink = CanonicalFolder(tmp_path / "asked", quota=2**40)
    report = check_upload([UploadedFile(path) for path in paths], asked, Limits(), sink)
    sink.finish(report)
    both = np.hstack([raw_counts(same=True), protein_counts()[:, 2:]])
    assert (whole(CanonicalQuery.open(tmp_path / "asked")) == np.vstack([both] * 2)).all()
