"""The .h5 files of 10x Genomics, of every version, and what may be wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from app.problems import AmbiguousFile, Problem, UnknownLayer

from . import cell_ranger_files as made
from . import files
from .bad_files import replace
from .conftest import Checked, check_here
from .test_layouts import arrays

Check = Callable[..., Checked]
REAL = Path(__file__).parents[4] / "shared/data/odd_h5ad/10x_v3_filtered_feature_bc_matrix.h5"


def test_both_layouts_give_the_canonical_query_of_an_h5ad(tmp_path: Path) -> None:
    matrix = files.counts(30, 9)
    written = {
        "h5ad": made.write_same_h5ad(tmp_path / "a.h5ad", matrix),
        "10x-h5-v2": made.write_v2(tmp_path / "b.h5", {"hg19": matrix}),
        "10x-h5-v3": made.write_v3(tmp_path / "c.h5", matrix),
    }
    told = {}
    for kind, path in written.items():
        report, query = check_here(path, tmp_path / kind)
        assert report["format"] == kind
        assert query.obs().index.tolist() == made.barcodes(30)
        assert query.gene_columns()["index"] == made.gene_ids(9)
        told[kind] = arrays(tmp_path / kind)
    assert told["h5ad"] == told["10x-h5-v2"] == told["10x-h5-v3"]


def test_features_have_symbols_types_and_genomes(check: Check, tmp_path: Path) -> None:
    types = ["Gene Expression"] * 6 + ["Antibody Capture"] * 2
    path = made.write_v3(tmp_path / "query.h5", extra={"feature_type": types})
    report, query = check(path)
    table = json.loads((query.folder / "genes.json").read_text())
    assert table["feature_types"] == types
    assert table["columns"]["gene_symbols"] == made.symbols(8)
    assert query.n_genes == 8
    (note,) = [each for each in report["problems"] if each["code"] == "other-features"]
    assert note["severity"] == "note"
    assert "2 'Antibody Capture'" in note["detail"]
    assert report["dropped"]["features"] == ["_all_tag_keys"]


def test_one_of_several_genomes_is_asked_for(tmp_path: Path) -> None:
    human, mouse = files.counts(seed=1), files.counts(seed=2)
    path = made.write_v2(tmp_path / "query.h5", {"hg19": human, "mm10": mouse})
    report, query = check_here(path, tmp_path / "mouse", genome="mm10")
    assert (query.rows(0, 99).toarray() == mouse).all()
    assert report["genome"] == "mm10"
    assert report["dropped"]["matrices"] == ["hg19"]
    with pytest.raises(AmbiguousFile, match="`hg19`, `mm10`") as caught:
        check_here(path, tmp_path / "none")
    assert caught.value.errors[0]["code"] == "several-genomes"
    with pytest.raises(UnknownLayer, match="no genome 'danRer'"):
        check_here(path, tmp_path / "wrong", genome="danRer")


def test_a_genome_of_a_file_with_both_leaves_the_other_out(tmp_path: Path) -> None:
    matrix = files.counts()
    genomes = ["GRCh38", "mm10"] * 4
    path = made.write_v3(tmp_path / "query.h5", matrix, extra={"genome": genomes})
    report, query = check_here(path, tmp_path / "mouse", genome="mm10")
    assert (query.rows(0, 99).toarray() == matrix[:, 1::2]).all()
    assert query.gene_columns()["index"] == made.gene_ids(8)[1::2]
    assert (report["genome"], report["n_genes"]) == ("mm10", 4)
    report, query = check_here(path, tmp_path / "both")
    assert (query.rows(0, 99).toarray() == matrix).all()
    with pytest.raises(UnknownLayer, match="`GRCh38`, `mm10`"):
        check_here(path, tmp_path / "wrong", genome="hg19")


def test_columns_that_a_version_lacks_are_done_without(check: Check, tmp_path: Path) -> None:
    path = made.write_v3(tmp_path / "query.h5")
    with h5py.File(path, "a") as file:
        for name in ("genome", "feature_type", "_all_tag_keys"):
            del file[f"matrix/features/{name}"]
        replace(file, "matrix/features/name", file["matrix/features/name"][:5])
    report, query = check(path)
    assert query.gene_columns() == {"index": made.gene_ids(8)}
    assert [each["code"] for each in report["problems"]] == ["column-left-out"]


def _set(path: str, position: int, value: Any) -> Callable[[h5py.File], None]:
    def function(file: h5py.File) -> None:
        array = file[path][:]
        array[position] = value
        replace(file, path, array)

    return function


def _swapped(file: h5py.File) -> None:
    replace(file, "matrix/shape", file["matrix/shape"][:][::-1])


def _drop(path: str) -> Callable[[h5py.File], None]:
    return lambda file: file.__delitem__(path)


BROKEN: dict[str, tuple[str, str, Callable[[h5py.File], None]]] = {
    "index beyond the features": (
        "index-out-of-range", "/matrix/indices", _set("matrix/indices", 3, 8)),
    "index negative": ("index-out-of-range", "/matrix/indices", _set("matrix/indices", 3, -1)),
    "pointers fall": ("pointers-fall", "/matrix/indptr", _set("matrix/indptr", 2, 2**40)),
    "pointers begin late": ("pointers-begin-late", "/matrix/indptr", _set("matrix/indptr", 0, 1)),
    "negative count": ("negative-values", "/matrix/data", _set("matrix/data", 0, -1)),
    "no data": ("missing-array", "/matrix/data", _drop("matrix/data")),
    "no shape": ("missing-array", "/matrix/shape", _drop("matrix/shape")),
    "shape of one": ("matrix-shape", "/matrix/shape",
                     lambda file: replace(file, "matrix/shape", np.array([8]))),
    "shape negative": ("matrix-shape", "/matrix/shape", _set("matrix/shape", 0, -8)),
    "shape swapped": ("wrong-length", "/matrix/indptr", _swapped),
    "no ids": ("missing-array", "/matrix/features/id",
               lambda file: file.__delitem__("matrix/features")),
    "barcodes are numbers": ("names-not-text", "/matrix/barcodes",
                             lambda file: replace(file, "matrix/barcodes", np.arange(12))),
    "barcodes short": ("shape-mismatch", "/matrix",
                       lambda file: replace(file, "matrix/barcodes", np.array([b"AAAC-1"]))),
    "link out": ("external-link", "/matrix/features/name", lambda file: (
        file.__delitem__("matrix/features/name"),
        file.__setitem__("matrix/features/name", h5py.ExternalLink("/etc/passwd", "/")))[0]),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_refuses_broken_structure(
    name: str, sandboxed: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    code, pointer, break_it = BROKEN[name]
    path = made.write_v3(tmp_path / "query.h5")
    with h5py.File(path, "a") as file:
        break_it(file)
    with pytest.raises(Problem) as caught:
        sandboxed(path)
    assert caught.value.status == 422
    assert (code, pointer) in {(each["code"], each["pointer"]) for each in caught.value.errors}


def test_molecule_information_is_named(check: Check, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "query.h5", "w") as file:
        file["barcode_idx"] = np.arange(3)
        file.create_group("barcode_info")
    with pytest.raises(Problem, match="molecule information") as caught:
        check(tmp_path / "query.h5")
    assert "filtered_feature_bc_matrix.h5" in str(caught.value.fix)


def test_a_layer_is_not_looked_for(check: Check, tmp_path: Path) -> None:
    with pytest.raises(UnknownLayer):
        check(made.write_v3(tmp_path / "query.h5"), layer="counts")


@pytest.mark.skipif(not REAL.exists(), reason="needs the shared data")
def test_a_real_file(check: Check) -> None:
    report, query = check(REAL)
    with h5py.File(REAL) as file:
        assert query.nnz == np.count_nonzero(file["matrix/data"][:])
        assert query.data.sum() == file["matrix/data"][:].sum()
    assert (report["n_cells"], report["n_genes"]) == (1107, 507)
    assert report["genes"]["columns"] == ["index", "gene_symbols"]


@pytest.mark.parametrize("version", [2, 3])
def test_symbols_of_another_number_are_left_out(version: int, check: Check, tmp_path: Path) -> None:
    write, at = ((made.write_v2, "hg19/gene_names"), (made.write_v3, "matrix/features/name"))[
        version - 2
    ]
    path = write(tmp_path / "query.h5")
    with h5py.File(path, "a") as file:
        replace(file, at, file[at][...][[0, *range(files.GENES)]])
    report, query = check(path)
    assert [(each["code"], each["pointer"]) for each in report["problems"]] == [
        ("column-left-out", f"/{at}")
    ]
    assert list(query.gene_columns()) == ["index"]
