"""Result files: readable by the tools people use, and the same bytes every time."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from safetensors import safe_open

from tests.worker.intake.conftest import check_here
from worker.canonical import CanonicalQuery
from worker.packed_counts import OwnCounts
from worker.results import (
    added_columns,
    annotated_obs,
    write_annotated_h5ad,
    write_latent,
    write_weights,
)

LATENT = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3) / 3


def packed(canonical: CanonicalQuery) -> OwnCounts:
    return OwnCounts(canonical, threads=2)


@pytest.fixture
def uploaded() -> anndata.AnnData:
    obs = pd.DataFrame(
        {
            "sample": pd.Categorical(["b", "a", None, "b"], categories=["b", "a"], ordered=True),
            "plain": ["x", "y", "y", "ü"],
            "share": [0.5, np.nan, 0.5, 1.0],
            "flag": [True, False, True, True],
            "maybe": pd.array([1, None, 3, 3], dtype="Int64"),
        },
        index=pd.Index(["c3", "c1", "c2", "c0"], name="barcode"),
    )
    var = pd.DataFrame({"gene_ids": ["E1", "E2"]}, index=["g1", "g2"])
    matrix = np.array([[1, 0], [0, 2], [3, 4], [0, 5]], dtype=np.float32)
    return anndata.AnnData(sp.csr_matrix(matrix), obs=obs, var=var)


@pytest.fixture
def canonical(uploaded: anndata.AnnData, tmp_path: Path) -> CanonicalQuery:
    uploaded.write_h5ad(tmp_path / "uploaded.h5ad")
    return check_here(tmp_path / "uploaded.h5ad", tmp_path / "canonical")[1]


def test_the_annotated_file_is_what_was_uploaded_and_the_latent(
    canonical: CanonicalQuery, tmp_path: Path
) -> None:
    names = {"cellgraft_batch": ["p", "q", "p", "q"], "cellgraft_empty": [False] * 4}
    obs = annotated_obs(canonical.obs(), names)
    write_annotated_h5ad(tmp_path / "query.h5ad", canonical, packed(canonical), obs, LATENT)
    back = anndata.read_h5ad(tmp_path / "query.h5ad")
    first = anndata.read_h5ad(tmp_path / "uploaded.h5ad")
    assert (back.obsm["X_latent"] == LATENT).all()
    assert (back.X != first.X).nnz == 0
    assert back.X.dtype == np.float32
    assert back.obs.columns.tolist() == [
        *first.obs.columns,
        "cellgraft_batch",
        "cellgraft_empty",
    ]
    pd.testing.assert_frame_equal(back.obs[first.obs.columns], first.obs)
    assert back.var_names.tolist() == ["g1", "g2"]
    assert back.var["gene_ids"].tolist() == ["E1", "E2"]


def test_features_that_are_no_genes_say_so(uploaded: anndata.AnnData, tmp_path: Path) -> None:
    uploaded.obsm["protein_expression"] = pd.DataFrame({"CD3": [0, 1, 2, 3]}, uploaded.obs_names)
    uploaded.write_h5ad(tmp_path / "uploaded.h5ad")
    canonical = check_here(tmp_path / "uploaded.h5ad", tmp_path / "canonical")[1]
    write_annotated_h5ad(
        tmp_path / "query.h5ad", canonical, packed(canonical), canonical.obs(), LATENT
    )
    back = anndata.read_h5ad(tmp_path / "query.h5ad")
    assert back.var_names.tolist() == ["g1", "g2", "CD3"]
    assert back.var["feature_types"].tolist() == ["Gene Expression"] * 2 + ["Antibody Capture"]
    assert back.X[:, 2].toarray().ravel().tolist() == [0, 1, 2, 3]


def test_a_column_of_the_query_is_not_replaced() -> None:
    obs = pd.DataFrame({"cellgraft_batch": ["mine"], "cellgraft_batch_1": ["mine too"]})
    assert added_columns(obs.rename_axis("cellgraft_empty")) == {
        "cellgraft_batch": "cellgraft_batch_2",
        "cellgraft_empty": "cellgraft_empty_1",
    }


def test_results_are_the_same_bytes_at_another_time(
    canonical: CanonicalQuery, tmp_path: Path
) -> None:
    digests = []
    for at in ("now", "later"):
        out = tmp_path / at
        out.mkdir()
        obs = canonical.obs()
        write_latent(out, obs.index, LATENT)
        write_annotated_h5ad(out / "query.h5ad", canonical, packed(canonical), obs, LATENT)
        digests.append(
            {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir()}
        )
        time.sleep(1.1)  # HDF5's time stamps count seconds
    assert len(digests[0]) == 4
    assert digests[0] == digests[1]


def test_the_three_latents_agree(canonical: CanonicalQuery, tmp_path: Path) -> None:
    write_latent(tmp_path, canonical.obs().index, LATENT)
    table = pd.read_parquet(tmp_path / "latent.parquet")
    text = pd.read_csv(tmp_path / "latent.csv", index_col=0, dtype=dict.fromkeys(table, "float32"))
    array = np.load(tmp_path / "latent.npy")
    assert table.index.tolist() == text.index.tolist() == ["c3", "c1", "c2", "c0"]
    assert table.columns.tolist() == ["latent_0", "latent_1", "latent_2"]
    assert array.dtype == np.float32
    assert table.to_numpy().tobytes() == array.tobytes() == LATENT.tobytes()
    assert text.to_numpy().tobytes() == LATENT.tobytes()


def test_an_index_named_like_a_column_is_still_written(
    canonical: CanonicalQuery, tmp_path: Path
) -> None:
    obs = annotated_obs(canonical.obs().rename_axis("sample"), {})
    write_annotated_h5ad(tmp_path / "query.h5ad", canonical, packed(canonical), obs, LATENT)
    assert anndata.read_h5ad(tmp_path / "query.h5ad").obs_names.tolist() == obs.index.tolist()


def test_weights_are_the_same_bytes_whatever_order_their_metadata_has(tmp_path: Path) -> None:
    weights = {"b": torch.arange(6.0).reshape(3, 2), "a": torch.ones(2, 2).t()}
    told = {f"categories:{name}": f"{name}\nü" for name in "xyz"}
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    write_weights(first, weights, told)
    write_weights(second, dict(reversed(weights.items())), dict(reversed(told.items())))
    assert first.read_bytes() == second.read_bytes()
    with safe_open(first, "pt") as file:
        assert file.metadata() == told
        assert torch.equal(file.get_tensor("b"), weights["b"])
