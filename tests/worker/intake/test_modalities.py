"""MuData files of several modalities: one query of all their cells and features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from app.problems import Problem

from . import files
from .conftest import Checked
from .test_attached import codes, whole

Check = Callable[..., Checked]


def modality(
    file: h5py.File, name: str, matrix: np.ndarray, cells: list[str], prefix: str, layout: str
) -> None:
    group = file.create_group(f"mod/{name}")
    files.write_matrix(group, "X", matrix, layout)
    obs = files.write_frame(group, "obs", cells, ["sample", f"depth_{name}"])
    files.write_categorical(obs, "sample", [len(cell) % 2 for cell in cells], ["a", "b"])
    obs[f"depth_{name}"] = matrix.sum(axis=1)
    files.write_frame(group, "var", files.names(prefix, matrix.shape[1]), [])


def write(path: Path, parts: dict[str, tuple[list[int], str]], layout: str = "csr") -> Path:
    """By modality: the cells that it has, and what its features are called."""
    with h5py.File(path, "w") as file:
        for seed, (name, (cells, prefix)) in enumerate(parts.items()):
            matrix = files.counts(len(cells), 4 + seed, seed)
            modality(file, name, matrix, [f"cell{at}" for at in cells], prefix, layout)
    return path


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_genes_and_proteins_of_the_same_cells(layout: str, check: Check, tmp_path: Path) -> None:
    cells = list(range(6))
    parts = {"rna": (cells, "gene"), "prot": (cells[::-1], "CD")}
    report, query = check(write(tmp_path / "query.h5mu", parts, layout))
    assert (report["modality"], report["joined"]) == ("rna", ["prot"])
    assert report["features"] == {"gene": 4, "protein": 5}
    assert (whole(query)[:, :4] == files.counts(6, 4, 0)).all()
    assert (whole(query)[:, 4:] == files.counts(6, 5, 1)[::-1]).all()
    assert query.obs().index.tolist() == [f"cell{at}" for at in cells]
    assert "modalities" not in report["dropped"]


def test_unpaired_cells_are_kept(check: Check, tmp_path: Path) -> None:
    """Those of genes and of regions; cells with proteins alone are none."""
    parts = {
        "adt": ([5, 7], "CD"), "atac": ([9, 2, 7], "chr1:1-"), "rna": ([1, 2, 3], "gene"),
        "cite": ([3, 5], "CITE"),
    }  # fmt: skip
    path = write(tmp_path / "query.h5mu", parts)
    report, query = check(path)
    assert report["features"] == {"gene": 6, "region": 5, "protein": 11}
    assert query.obs().index.tolist() == [f"cell{at}" for at in (1, 2, 3, 9, 7)]
    genes, tags, regions, proteins = (
        np.zeros((5, 6)), np.zeros((5, 4)), np.zeros((5, 5)), np.zeros((5, 7))
    )  # fmt: skip
    genes[[0, 1, 2]] = files.counts(3, 6, 2)
    tags[4] = files.counts(2, 4, 0)[1]
    regions[[3, 1, 4]] = files.counts(3, 5, 1)
    proteins[2] = files.counts(2, 7, 3)[0]
    assert (whole(query) == np.hstack([genes, tags, regions, proteins])).all()
    obs = query.obs()
    assert obs["sample"].tolist() == ["b"] * 5
    assert obs["depth_rna"].isna().tolist() == [False] * 3 + [True] * 2
    assert "empty-cells" not in codes(report)
    told = {each["pointer"]: each["detail"] for each in report["problems"]}
    assert "of its 2 rows the 1 whose cells" in told["/mod/cite/X"]
    assert "rows" not in told["/mod/atac/X"]


def test_proteins_of_all_droplets_are_taken_for_the_cells(check: Check, tmp_path: Path) -> None:
    path, droplets = tmp_path / "query.h5mu", 700
    names = [f"cell{at}" for at in range(droplets)]
    cells = names[5:600:50]
    proteins = np.zeros((droplets, 3), dtype=np.float32)
    proteins[5:600:50] = 500 + np.arange(len(cells))[:, None]
    with h5py.File(path, "w") as file:
        modality(file, "rna", files.counts(len(cells), 4), cells, "gene", "csr")
        modality(file, "prot", proteins, names, "CD", "csr")
    report, query = check(path)
    assert codes(report) == ["features-joined", "other-features"]
    assert query.obs().index.tolist() == cells
    assert (whole(query) == np.hstack([files.counts(len(cells), 4), proteins[5:600:50]])).all()


def test_without_genes_regions_come_first(check: Check, tmp_path: Path) -> None:
    parts = {"atac": ([1, 2], "chr1:1-"), "prot": ([2, 1], "CD")}
    report, query = check(write(tmp_path / "query.h5mu", parts))
    assert report["modality"] == "atac"
    assert query.genes().count_kinds() == {"region": 4, "protein": 5}
    assert "unknown-identifiers" not in codes(report)


def test_a_modality_without_counts_is_left_out(check: Check, tmp_path: Path) -> None:
    path = write(tmp_path / "query.h5mu", {"rna": ([1, 2], "gene"), "atac": ([1, 2, 3], "peak")})
    with h5py.File(path, "a") as file:
        file["mod/atac/X/data"][:] *= 0.37
    report, query = check(path)
    assert codes(report) == ["features-left-out"]
    assert report["dropped"]["modalities"] == ["atac"]
    assert query.n_cells == 2
    assert query.genes().kinds is None


def test_counts_of_a_modality_may_be_in_a_layer(check: Check, tmp_path: Path) -> None:
    path = write(tmp_path / "query.h5mu", {"rna": ([1, 2], "gene"), "atac": ([2, 1], "peak")})
    with h5py.File(path, "a") as file:
        files.write_matrix(
            file["mod/atac"].create_group("layers"), "counts", files.counts(2, 5, 1), "csr"
        )
        file["mod/atac/X/data"][:] *= 0.37
    report, query = check(path)
    assert (whole(query)[:, 4:] == files.counts(2, 5, 1)[::-1]).all()
    assert report["features"]["region"] == 5


@pytest.mark.parametrize("broken", ["rna", "prot"])
def test_cells_that_repeat_cannot_be_joined(broken: str, check: Check, tmp_path: Path) -> None:
    cells = {"rna": [1, 2], "prot": [1, 2]} | {broken: [1, 1]}
    parts = {name: (each, name) for name, each in cells.items()}
    report, query = check(write(tmp_path / "query.h5mu", parts))
    assert "features-left-out" in codes(report)
    assert query.n_genes == 4


def test_a_modality_of_another_kind_is_dropped(check: Check, tmp_path: Path) -> None:
    parts = {"rna": ([1, 2], "gene"), "hashtags": ([1, 2, 3], "HTO"), "gex": ([1, 2], "other")}
    report, query = check(write(tmp_path / "query.h5mu", parts))
    assert report["dropped"]["modalities"] == ["gex", "hashtags"]
    assert (query.n_cells, query.n_genes) == (2, 4)
    (found,) = report["problems"]
    assert (found["code"], found["pointer"]) == ("features-left-out", "/mod/hashtags")
    assert "says what its features are" in found["detail"]


def test_cells_without_proteins_are_counted(check: Check, tmp_path: Path) -> None:
    """To a network what was not measured is zero, where others of the batch were measured."""
    parts = {"rna": ([1, 2, 3, 4], "gene"), "prot": ([4, 9, 2], "CD")}
    report, _ = check(write(tmp_path / "query.h5mu", parts))
    (told,) = [each for each in report["problems"] if each["code"] == "features-joined"]
    assert "of its 3 rows the 2 whose cells the query has" in told["detail"]
    assert "2 of the query's 4 cells have no row there" in told["detail"]
    assert "a batch of their own" in told["fix"]


def test_a_modality_that_repeats_features_is_left_out(check: Check, tmp_path: Path) -> None:
    cells = [1, 2, 3]
    path = tmp_path / "query.h5mu"
    parts = {"adt": (cells, "CD"), "prot": ([3, 2, 1], "CD"), "rna": (cells, "gene")}
    report, query = check(write(path, parts))
    assert (report["joined"], report["dropped"]["modalities"]) == (["adt"], ["prot"])
    assert codes(report) == ["features-left-out", "features-joined", "other-features"]
    genes, proteins = files.counts(3, 6, 2), files.counts(3, 4, 0)
    assert (whole(query) == np.hstack([genes, proteins])).all()
    with h5py.File(path, "a") as file:
        del file["mod/rna/var"]
        names = [*files.names("gene", 4), "CD0", "CD9"]
        var = files.write_frame(file["mod/rna"], "var", names, ["feature_types"])
        types = ["Gene Expression", "Antibody Capture"]
        files.write_categorical(var, "feature_types", [0] * 4 + [1] * 2, types)
    report, query = check(path)
    assert report["dropped"]["modalities"] == ["adt", "prot"]
    assert report["features"] == {"gene": 4, "protein": 2}
    assert (whole(query) == genes).all()


def test_a_table_that_was_asked_for_may_not_repeat_a_modality(check: Check, tmp_path: Path) -> None:
    cells = [1, 2, 3]
    path = write(tmp_path / "query.h5mu", {"prot": (cells, "CD"), "rna": (cells, "gene")})
    with h5py.File(path, "a") as file:
        obsm = file["mod/rna"].create_group("obsm")
        frame = files.write_frame(obsm, "adt", [f"cell{at}" for at in cells], ["CD1"])
        frame["CD1"] = np.ones(3)
    for samples in (), ("one",):  # one file by itself, and as a sample of several
        with pytest.raises(Problem) as caught:
            check(path, proteins_key="adt", samples=samples)
        assert [each["code"] for each in caught.value.errors] == ["features-repeat"]


def test_proteins_of_other_cells_are_left_out(check: Check, tmp_path: Path) -> None:
    path = write(tmp_path / "query.h5mu", {"rna": ([1, 2], "gene"), "prot": ([3, 4], "CD")})
    report, query = check(path)
    assert codes(report) == ["features-left-out"]
    assert report["dropped"]["modalities"] == ["prot"]
    assert (whole(query) == files.counts(2, 4)).all()
