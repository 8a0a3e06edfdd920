"""A sample's latents are its own: alone, in a plate, or in another order, the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models_store.encoding import label_probabilities
from models_store.recipe import RecipeName
from models_store.scanvi import SCANVI
from tests.worker.engine.simulated import (
    Reference,
    Simulated,
    nothing,
    simulate,
    surgery_on,
    write_canonical,
)

FEW = {"default": 6, "scvi-tools": 2, "forward": 0}


def latents(
    reference: Reference,
    cells: Simulated,
    folder: Path,
    recipe: RecipeName = "default",
    labels_key: str | None = None,
) -> pd.DataFrame:
    """Map and return latents, variances and label probabilities by cell name."""
    query = write_canonical(folder, cells, kind=reference.manifest.input)
    surgery = surgery_on(reference, query, labels_key=labels_key)
    projected = surgery.project(nothing)
    chosen = reference.manifest.recipe(recipe).model_copy(update={"max_epochs": FEW[recipe]})
    found = surgery.encode(projected, surgery.weights(surgery.fit(projected, chosen, nothing)))
    values = np.hstack([found.mean.numpy(), found.variance.numpy()])
    if isinstance(reference.cvae, SCANVI):
        blocks = label_probabilities(reference.cvae, found.mean)
        values = np.hstack([values, np.vstack([p.numpy() for p in blocks])])
    return pd.DataFrame(values, index=cells.obs.index)


def joined(*parts: Simulated) -> Simulated:
    return Simulated(
        sp.vstack([part.counts for part in parts]).tocsr(), pd.concat([p.obs for p in parts])
    )


@pytest.mark.parametrize("recipe", list(FEW))
def test_alone_in_a_plate_and_permuted(
    reference: Reference, tmp_path: Path, recipe: RecipeName
) -> None:
    mine = simulate({"mine": 55}, seed=1)
    others = simulate({f"other-{i}": 20 + i for i in range(20)}, seed=2)
    alone = latents(reference, mine, tmp_path / "alone", recipe)
    plate = joined(others, mine)
    order = np.random.default_rng(3).permutation(plate.counts.shape[0])
    in_plate = latents(reference, plate, tmp_path / "plate", recipe)
    permuted = latents(reference, plate.take(order), tmp_path / "permuted", recipe)
    assert np.array_equal(in_plate.loc[alone.index], alone)
    assert np.array_equal(permuted.loc[in_plate.index], in_plate)


def test_known_labels_alone_in_a_plate_and_permuted(labelled: Reference, tmp_path: Path) -> None:
    """They take part in the fit of their own batch, and in no other."""
    mine = simulate({"mine": 70}, seed=1)
    mine.obs.loc[mine.obs.index[::2], "cell_type"] = "new to the reference"
    others = simulate({f"other-{i}": 20 + i for i in range(6)}, seed=2)
    plate = joined(others, mine)
    order = np.random.default_rng(3).permutation(plate.counts.shape[0])
    alone = latents(labelled, mine, tmp_path / "alone", labels_key="cell_type")
    taken = plate.take(order)
    permuted = latents(labelled, taken, tmp_path / "permuted", labels_key="cell_type")
    assert np.array_equal(permuted.loc[alone.index], alone)
    blind = latents(labelled, mine, tmp_path / "blind")
    assert not np.array_equal(blind, alone)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 2**31),
    n_mine=st.integers(1, 1300),
    n_before=st.integers(1, 1300),
)
def test_any_company_in_any_order(
    recommended: Reference, tmp_path_factory, seed: int, n_mine: int, n_before: int
) -> None:
    folder = tmp_path_factory.mktemp("any")
    mine = simulate({"mine": n_mine}, seed=seed % 1000)
    plate = joined(simulate({"before": n_before}, seed=1000 + seed % 1000), mine)
    order = np.random.default_rng(seed).permutation(n_before + n_mine)
    alone = latents(recommended, mine, folder / "alone")
    together = latents(recommended, plate.take(order), folder / "together")
    assert np.array_equal(together.loc[alone.index], alone)


def test_the_batch_name_does_not_matter(recommended: Reference, tmp_path: Path) -> None:
    mine = simulate({"mine": 60}, seed=4)
    renamed = Simulated(mine.counts, mine.obs.assign(batch="quite another"))
    first = latents(recommended, mine, tmp_path / "a")
    assert np.array_equal(first, latents(recommended, renamed, tmp_path / "b"))


def test_another_cell_changes_the_fit(recommended: Reference, tmp_path: Path) -> None:
    """So that the tests above could fail: the fit does look at every cell of its batch."""
    mine = simulate({"mine": 60}, seed=4)
    fewer = latents(recommended, mine.take(np.arange(59)), tmp_path / "a")
    whole = latents(recommended, mine, tmp_path / "b")
    assert not np.array_equal(whole.iloc[:59], fewer)
