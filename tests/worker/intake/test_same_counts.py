"""The same cells in every format come out as the same canonical query, in the sandbox as well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import mudata
import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp

from worker.canonical import CanonicalQuery

from . import cell_ranger_files as made
from . import market_files as packed
from .conftest import check_here
from .test_layouts import arrays

KANG = Path(__file__).parents[4] / "shared/data/kang_muscat_1556/kang_muscat_1556.h5ad"


def write_v3(path: Path, counts: sp.csr_matrix, cells: list[str], genes: list[str]) -> None:
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        for part in ("data", "indices", "indptr"):
            values = getattr(counts, part)
            group.create_dataset(part, data=values.astype(np.int64), compression="gzip")
        group["shape"] = np.array(counts.shape[::-1])
        group["barcodes"] = np.array(cells, dtype="S")
        for name in ("id", "name"):
            group[f"features/{name}"] = np.array(genes, dtype="S")


def write_triple(path: Path, counts: sp.csr_matrix, cells: list[str], genes: list[str]) -> None:
    """The matrix as scipy writes it, which is in no order that Cell Ranger has."""
    matrix = path.with_suffix(".mtx")
    scipy.io.mmwrite(matrix, counts.T.tocoo(), field="integer", symmetry="general")
    contents = {
        "matrix.mtx": matrix.read_bytes(),
        "features.tsv": "".join(f"{gene}\t{gene}\tGene Expression\n" for gene in genes).encode(),
        "barcodes.tsv": "".join(f"{cell}\n" for cell in cells).encode(),
    }
    packed.write_tar(path, packed.gzipped(contents))


@pytest.mark.skipif(not KANG.exists(), reason="needs the shared data")
def test_real_cells(tmp_path: Path) -> None:
    cells = anndata.read_h5ad(KANG)
    check_here(KANG, tmp_path / "expected")
    expected = CanonicalQuery.open(tmp_path / "expected")
    counts = expected.rows(0, expected.n_cells)
    names = cells.obs_names.tolist(), expected.gene_columns()["index"]
    write_v3(tmp_path / "cells.h5", counts, *names)
    write_triple(tmp_path / "cells.tar.gz", counts, *names)
    rna = anndata.AnnData(counts.copy())
    rna.obs_names, rna.var_names = names
    with mudata.set_options(pull_on_update=False):
        mudata.MuData({"rna": rna}).write(tmp_path / "cells.h5mu")
    for name in ("cells.h5", "cells.tar.gz", "cells.h5mu"):
        report, query = check_here(tmp_path / name, tmp_path / f"{name}.canonical")
        assert arrays(query.folder) == arrays(expected.folder)
        assert query.obs().index.tolist() == names[0]
        assert query.gene_columns()["index"] == names[1]
        assert [each for each in report["problems"] if each["severity"] == "error"] == []


def test_many_names_fit_into_the_memory_of_a_small_file(
    sandboxed: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    counts = sp.random(300, 40_000, density=0.002, format="csr", random_state=rng)
    counts.data = np.ceil(counts.data * 9)
    names = made.barcodes(300), made.gene_ids(40_000)
    write_triple(tmp_path / "cells.tar.gz", counts, *names)
    assert sandboxed(tmp_path / "cells.tar.gz")["counts"]["total"] == counts.sum()
