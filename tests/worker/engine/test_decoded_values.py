"""Files of decoded values: what the decoder says, the same bytes in any company, or a Problem."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from app.problems import UnknownOutput
from models_store import decoding
from tests.worker.engine.simulated import Reference, Simulated, nothing, simulate
from tests.worker.engine.test_mapping import order
from worker import decoded_values
from worker.mapping import run_mapping
from worker.reference_cache import ReferenceCache

EXPRESSION = "normalised_expression"


def decoded(
    reference: Reference, folder: Path, cells: Simulated, **asked: Any
) -> tuple[pd.DataFrame, bytes]:
    folder.mkdir()
    ordered = order(reference, folder, cells, outputs=[{"output": EXPRESSION, **asked}])
    run_mapping(ordered, ReferenceCache(), nothing)
    path = ordered.out / f"{EXPRESSION}.parquet"
    return pd.read_parquet(path), path.read_bytes()


def genes_of(reference: Reference) -> list[str]:
    return list(reference.manifest.genes.ids)


def test_a_row_for_each_cell_and_a_share_for_each_gene(
    recommended: Reference, tmp_path: Path
) -> None:
    cells = simulate({"c": 60, "d": 50}, seed=3)
    genes = genes_of(recommended)
    found, _ = decoded(recommended, tmp_path / "all", cells, features=genes)
    assert list(found.index) == list(cells.obs.index)
    assert list(found.columns) == genes
    assert found.to_numpy().min() >= 0
    assert np.allclose(found.sum(axis=1), 1.0, atol=1e-5)
    chosen, _ = decoded(recommended, tmp_path / "two", cells, features=[genes[5], genes[2]])
    pd.testing.assert_frame_equal(chosen, found[[genes[5], genes[2]]])


def test_a_value_is_the_mean_over_draws_of_the_scale(
    recommended: Reference, tmp_path: Path
) -> None:
    cells = simulate({"ref-b": 40}, seed=4)
    ordered = order(
        recommended,
        tmp_path,
        cells,
        outputs=[{"output": EXPRESSION, "features": genes_of(recommended)}],
        reuse_batches=True,
        recipe="forward",
    )
    run_mapping(ordered, ReferenceCache(), nothing)
    found = pd.read_parquet(ordered.out / f"{EXPRESSION}.parquet").to_numpy()
    network, x = recommended.cvae, torch.from_numpy(cells.counts.toarray())
    code = recommended.manifest.batch.categories.index("ref-b")
    with torch.no_grad():
        q = network.z_encoder(network.z_encoder.layers.project(torch.log1p(x)), (code,))
        each = [
            torch.softmax(network.decoder.scale(network.decoder.layers(z, (code,))), -1)
            for z in (q.m + q.v.sqrt() * noise for noise in decoding.draws(4))
        ]
    expected = torch.stack(each).mean(0)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-7)


def test_draws_have_the_mean_and_the_variance_of_what_they_are_drawn_from() -> None:
    drawn = decoding.draws(5)
    assert torch.allclose(drawn.mean(0), torch.zeros(5), atol=1e-6)
    assert torch.allclose(drawn.pow(2).mean(0), torch.ones(5), atol=1e-5)


def test_another_batch_to_decode_into_changes_values(
    recommended: Reference, tmp_path: Path
) -> None:
    cells, genes = simulate({"c": 60}, seed=3), genes_of(recommended)
    own, _ = decoded(recommended, tmp_path / "own", cells, features=genes)
    into_a, _ = decoded(recommended, tmp_path / "a", cells, features=genes, batch="ref-a")
    into_b, _ = decoded(recommended, tmp_path / "b", cells, features=genes, batch="ref-b")
    assert not np.allclose(own, into_a, rtol=1e-3)
    assert not np.allclose(into_a, into_b, rtol=1e-3)


def test_values_are_the_same_bytes_alone_and_in_a_plate(
    recommended: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genes, plate = genes_of(recommended), simulate({"c": 60, "d": 50}, seed=3)
    monkeypatch.setattr(decoded_values, "VALUES_AT_ONCE", 1000)  # several groups of rows
    together, _ = decoded(recommended, tmp_path / "plate", plate, features=genes)
    alone, _ = decoded(recommended, tmp_path / "alone", plate.take(np.arange(60)), features=genes)
    assert together.iloc[:60].to_numpy().tobytes() == alone.to_numpy().tobytes()
    order_ = np.random.default_rng(0).permutation(110)
    permuted, _ = decoded(recommended, tmp_path / "permuted", plate.take(order_), features=genes)
    assert permuted.to_numpy().tobytes() == together.to_numpy()[order_].tobytes()


def test_the_same_order_gives_the_same_file(recommended: Reference, tmp_path: Path) -> None:
    cells, genes = simulate({"c": 30}, seed=3), genes_of(recommended)[:3]
    _, once = decoded(recommended, tmp_path / "once", cells, features=genes)
    _, again = decoded(recommended, tmp_path / "again", cells, features=genes)
    assert once == again


@pytest.mark.parametrize(
    ("asked", "pointer", "says"),
    [
        ([{"output": "accessibility", "features": ["x"]}], "/outputs/0/output", "gives no"),
        ([{"output": EXPRESSION}], "/outputs/0/features", "needs the names of genes"),
        ([{"output": EXPRESSION, "features": ["no-gene"]}], "/outputs/0/features", "no-gene"),
        (
            [{"output": EXPRESSION, "features": ["GENE"], "batch": "zz"}],
            "/outputs/0/batch",
            "no batch 'zz'",
        ),
        (
            [{"output": EXPRESSION, "features": ["GENE"]}] * 2,
            "/outputs/1/output",
            "asked for twice",
        ),
    ],
)
def test_what_the_reference_cannot_give_is_refused(
    recommended: Reference, tmp_path: Path, asked: list[dict[str, Any]], pointer: str, says: str
) -> None:
    first = genes_of(recommended)[0]
    named = [
        {**each, "features": [first if f == "GENE" else f for f in each["features"]]}
        if "features" in each
        else each
        for each in asked
    ]
    ordered = order(recommended, tmp_path, simulate({"c": 30}), outputs=named)
    with pytest.raises(UnknownOutput) as refused:
        run_mapping(ordered, ReferenceCache(), nothing)
    assert says in str(refused.value)
    assert refused.value.errors[0]["pointer"] == pointer
