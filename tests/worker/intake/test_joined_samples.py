"""Several files as one query: cells below each other, genes by name, faults with their file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from app.problems import MalformedRequest, Problem, UnknownLayer
from worker.canonical import CanonicalQuery
from worker.checking import CheckOrder
from worker.intake.check import Request, check_upload
from worker.intake.findings import Findings
from worker.intake.folder import CanonicalFolder
from worker.intake.limits import Limits
from worker.intake.samples import UploadedFile, sort_into_samples
from worker.zygote_process import ZygoteProcess

from . import cell_ranger_files as made
from . import files
from .bad_files import replace
from .conftest import Checked

Join = Callable[..., Checked]


@pytest.fixture
def join(tmp_path: Path) -> Join:
    """Check several files as one upload."""

    def run(paths: list[Path], **request: Any) -> Checked:
        sink = CanonicalFolder(tmp_path / "canonical", quota=2**40)
        sent = [UploadedFile(path, path.name) for path in paths]
        try:
            report = check_upload(sent, Request(**request), Limits(), sink)
            sink.finish(report)
        finally:
            sink.close()
        return report, CanonicalQuery.open(tmp_path / "canonical")

    return run


def eight(folder: Path) -> tuple[list[Path], list[np.ndarray]]:
    matrices = [files.counts(5 + seed, 8, seed) for seed in range(8)]
    paths = [
        made.write_v3(folder / f"s{number}_filtered_feature_bc_matrix.h5", matrix)
        for number, matrix in enumerate(matrices)
    ]
    return paths, matrices


def test_eight_files_are_one_query(join: Join, tmp_path: Path) -> None:
    paths, matrices = eight(tmp_path)
    report, query = join(paths)
    whole = np.concatenate(matrices)
    assert (query.rows(0, 999).toarray() == whole).all()
    obs = query.obs()
    assert list(obs.columns) == ["sample"]
    assert obs["sample"].cat.categories.tolist() == [f"s{number}" for number in range(8)]
    assert obs["sample"].tolist() == [f"s{n}" for n, m in enumerate(matrices) for _ in m]
    assert obs.index[0] == f"{made.barcodes(1)[0]}_s0"
    assert obs.index.is_unique
    assert report["format"] == "10x-h5-v3"
    assert [part["n_cells"] for part in report["parts"]] == [len(matrix) for matrix in matrices]
    assert report["problems"] == []
    assert query.gene_columns()["gene_symbols"] == made.symbols(8)


def test_genes_are_joined_by_name(join: Join, tmp_path: Path) -> None:
    first, second = files.counts(4, 3, 1), files.counts(5, 3, 2)
    one = made.write_v3(tmp_path / "one.h5", first, extra={"id": ["A", "B", "B"]})
    two = made.write_v3(
        tmp_path / "two.h5", second, extra={"id": ["C", "B", "A"], "name": ["c", "b", "a"]}
    )
    report, query = join([one, two])
    assert query.gene_columns()["index"] == ["A", "B", "B", "C"]
    assert query.gene_columns()["gene_symbols"] == ["GENE0", "GENE1", "GENE2", "c"]
    expected = np.zeros((9, 4))
    expected[:4, :3] = first
    expected[4:, [3, 1, 0]] = second
    assert (query.rows(0, 99).toarray() == expected).all()
    codes = [each["code"] for each in report["problems"]]
    assert "genes-differ" in codes


def test_formats_and_columns_may_differ(join: Join, tmp_path: Path) -> None:
    matrix = files.counts(6, 8, 3)
    plain = made.write_v2(tmp_path / "plain.h5", {"hg19": matrix})
    other = files.write_h5ad(tmp_path / "other.h5ad", matrix)
    with h5py.File(other, "a") as file:
        replace(file, "var/_index", np.array(made.gene_ids(8), dtype="S"))
        file["obs"].attrs["column-order"] = ["sample", "whole"]
        file["obs/whole"] = np.arange(6)
    report, query = join([plain, other])
    assert report["format"] == "mixed"
    obs = query.obs()
    assert list(obs.columns) == ["sample", "sample_1", "whole"]
    assert obs["sample"].tolist() == ["plain"] * 6 + ["other"] * 6
    assert obs["sample_1"].isna().tolist() == [True] * 6 + [False] * 6
    assert obs["whole"].tolist()[6:] == list(range(6))
    assert str(obs["whole"].dtype) == "Int64"
    assert "column-renamed" in [each["code"] for each in report["problems"]]
    assert (query.rows(0, 99).toarray() == np.concatenate([matrix, matrix])).all()


def test_columns_of_different_kinds_become_text(join: Join, tmp_path: Path) -> None:
    paths = []
    for name, values in (("a", np.array([1.5] * 12)), ("b", np.array([b"x"] * 12))):
        path = files.write_h5ad(tmp_path / f"{name}.h5ad")
        with h5py.File(path, "a") as file:
            file["obs"].attrs["column-order"] = ["age", "group"]
            file["obs/age"] = values
            files.write_categorical(file["obs"], "group", [0, 1] * 6, [name, "both"])
        paths.append(path)
    _, query = join(paths)
    obs = query.obs()
    assert obs["age"].tolist() == ["1.5"] * 12 + ["x"] * 12
    assert obs["group"].tolist() == ["a", "both"] * 6 + ["b", "both"] * 6


def test_names_may_be_given_and_must_be_enough(join: Join, tmp_path: Path) -> None:
    paths, _ = eight(tmp_path)
    _, query = join(paths[:3], samples=("x", "x", "y"))
    assert query.obs()["sample"].cat.categories.tolist() == ["x", "x_1", "y"]
    with pytest.raises(MalformedRequest, match="3 samples were sent and 2 names"):
        join(paths[:3], samples=("x", "y"))
    _, query = join(paths[:1], samples=("alone",))
    assert query.obs()["sample"].tolist() == ["alone"] * 5


@pytest.mark.parametrize(
    ("sent", "names"),
    [
        (["a_filtered_feature_bc_matrix.h5", "b.filtered_feature_bc_matrix.h5"], ["a", "b"]),
        (["filtered_feature_bc_matrix.h5"] * 2, ["sample1", "sample2"]),
        (["x/p1_raw_gene_bc_matrices_h5.h5", "p1.h5ad"], ["p1", "p1_1"]),
        (["one.tar.gz", "two_filtered_feature_bc_matrix.zip"], ["one", "two"]),
        (["", "\ud800.h5"], ["sample1", "\ufffd"]),
        (["matrix.mtx.gz", "features.tsv.gz", "barcodes.tsv.gz"], ["sample1"]),
        (
            [
                *(f"{s}_{f}" for f in ("matrix.mtx", "genes.tsv", "barcodes.tsv") for s in "ab"),
                "c.h5",
            ],
            ["a", "b", "c"],
        ),
    ],
)
def test_samples_are_named_by_their_files(sent: list[str], names: list[str]) -> None:
    found = sort_into_samples([UploadedFile(Path(), name) for name in sent], (), Findings())
    assert [sample.name for sample in found] == names


@pytest.mark.parametrize(
    "sent",
    [
        ["a_matrix.mtx", "a_features.tsv"],
        ["a_matrix.mtx", "b_features.tsv", "a_barcodes.tsv"],
        ["matrix.mtx", "genes.tsv", "barcodes.tsv", "features.tsv"],
    ],
)
def test_a_triple_that_is_not_whole_is_refused(sent: list[str]) -> None:
    with pytest.raises(MalformedRequest) as caught:
        sort_into_samples([UploadedFile(Path(), name) for name in sent], (), Findings())
    assert caught.value.errors[0]["code"] == "triple-incomplete"


def test_what_is_wrong_is_told_of_every_file_by_its_number(join: Join, tmp_path: Path) -> None:
    paths, _ = eight(tmp_path)
    with h5py.File(paths[1], "a") as file:
        file["matrix/data"][2] = -4
    paths[2].write_bytes(b"no file of HDF5")
    with h5py.File(paths[3], "a") as file:
        del file["matrix/barcodes"]
    with h5py.File(paths[4], "a") as file:
        del file["matrix/shape"]
    with h5py.File(paths[6], "a") as file:
        file["matrix/indices"][0] = 99
        file["matrix/link"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(Problem) as caught:
        join(paths)
    told = {(each["code"], each["pointer"]) for each in caught.value.errors}
    assert told == {
        ("negative-values", "/parts/2"),
        ("not-hdf5", "/parts/3"),
        ("missing-array", "/parts/4/matrix/barcodes"),
        ("missing-array", "/parts/5/matrix/shape"),
        ("index-out-of-range", "/parts/7/matrix/indices"),
        ("external-link", "/parts/7/matrix/link"),
    }
    assert all("s1_" not in each["detail"] for each in caught.value.errors)
    assert caught.value.inspection is not None
    assert len(caught.value.inspection["parts"]) == 5


def test_a_fault_is_placed_among_all_cells(join: Join, tmp_path: Path) -> None:
    paths, matrices = eight(tmp_path)
    with h5py.File(paths[1], "a") as file:
        file["matrix/data"][0] = -4
    with pytest.raises(Problem, match=f"'{made.barcodes(1)[0]}_s1' .row {len(matrices[0])}."):
        join(paths[:2])


@pytest.mark.parametrize(
    ("options", "pointer", "said"),
    [
        ({}, "/parts", "part 1 has `X`; part 2 has `layers/counts`"),
        ({"input": "continuous"}, "/parts/2/X", "Part 2: The file has no matrix `X`"),
    ],
)
def test_files_that_have_no_matrix_of_one_name_are_refused(
    options: dict[str, Any], pointer: str, said: str, join: Join, tmp_path: Path
) -> None:
    paths = [files.write_h5ad(tmp_path / f"{name}.h5ad") for name in "ab"]
    with h5py.File(paths[1], "a") as file:
        file.move("X", "layers/counts")
    with pytest.raises(UnknownLayer, match=said) as raised:
        join(paths, **options)
    told = [(each["code"], each["pointer"]) for each in raised.value.errors]
    assert told == [("unknown-layer", pointer)]


def test_a_layer_of_all_files(join: Join, tmp_path: Path) -> None:
    matrix = files.counts()
    paths = [files.write_h5ad(tmp_path / f"{n}.h5ad", np.log1p(matrix)) for n in "ab"]
    for path in paths:
        with h5py.File(path, "a") as file:
            files.write_matrix(file, "layers/counts", matrix, "csr")
    for layer in (None, "counts"):
        report, query = join(paths, layer=layer)
        assert (query.rows(0, 99).toarray() == np.concatenate([matrix, matrix])).all()
        assert report["counts_from"] == "layers/counts"
    with pytest.raises(UnknownLayer) as caught:
        join(paths, layer="umi")
    assert [each["pointer"] for each in caught.value.errors] == [
        f"/parts/{number}/layers/umi" for number in (1, 2)
    ]


def test_counts_are_recovered_over_all_files(join: Join, tmp_path: Path) -> None:
    matrix = files.counts(40, 30)
    logged = np.log1p(matrix / matrix.sum(axis=1, keepdims=True) * 1e4)
    paths = [files.write_h5ad(tmp_path / f"{n}.h5ad", logged.astype(np.float32)) for n in "ab"]
    report, query = join(paths)
    assert report["counts_class"] == "log-normalised"
    assert (query.rows(0, 99).toarray() == np.concatenate([matrix, matrix])).all()


def test_many_files_are_read_in_the_sandbox(zygote: ZygoteProcess, tmp_path: Path) -> None:
    """More than a check may hold open at once, and with names longer than a socket passes on."""
    path = made.write_v3(tmp_path / "one.h5")
    others = tuple(UploadedFile(path, f"{number}{chr(0x1F9EC) * 250}.h5") for number in range(95))
    order = CheckOrder(
        path, tmp_path / "out", {}, 20.0, Limits(memory_bytes=2**30), name="x.h5", others=others
    )
    report = zygote.check(order)
    assert report["n_cells"] == 96 * files.CELLS
    assert len(report["parts"]) == 96
