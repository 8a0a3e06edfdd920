"""The reference's latents never move, whatever surgery adds beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models_store.bundle import CELLS_FILE
from models_store.encoding import Latents, label_probabilities
from models_store.scanvi import SCANVI
from models_store.surgery import graft, query_weights
from tests.worker.engine.simulated import (
    Reference,
    nothing,
    simulate,
    surgery_on,
    write_canonical,
)
from worker.canonical import CanonicalQuery
from worker.grafting import QuerySurgery


def stored(reference: Reference) -> tuple[np.ndarray, np.ndarray]:
    cells = pd.read_parquet(reference.folder / CELLS_FILE)
    n = reference.manifest.architecture.n_latent
    return (
        cells[[f"latent_{i}" for i in range(n)]].to_numpy(),
        cells[[f"variance_{i}" for i in range(n)]].to_numpy(),
    )


def probabilities(surgery: QuerySurgery, latents: Latents) -> np.ndarray:
    """Of each label, for a reference that predicts them."""
    if not isinstance(surgery.cvae, SCANVI):
        return np.zeros((len(latents.mean), 0))
    return np.vstack([p.numpy() for p in label_probabilities(surgery.cvae, latents.mean)])


def stored_probabilities(reference: Reference) -> np.ndarray:
    """The classifier's, of the latents that the bundle keeps."""
    mean = torch.from_numpy(stored(reference)[0])
    if not isinstance(reference.cvae, SCANVI):
        return np.zeros((len(mean), 0))
    return np.vstack([p.numpy() for p in label_probabilities(reference.cvae, mean)])


def reference_beside_query(reference: Reference, folder: Path) -> tuple[QuerySurgery, int]:
    """The reference's own cells, told to be what they are, in one query with cells of new
    batches (and a new plate)."""
    own = simulate({"ref-a": 90, "ref-b": 70})
    own_name = reference.manifest.batch.key is None
    new = simulate({"new-c": 40, "new-d": 30}, seed=5)
    both_obs = pd.concat([own.obs, new.obs])
    both_obs["batch"] = (["query"] * 160 if own_name else list(own.obs.batch)) + list(new.obs.batch)
    both_obs.loc[both_obs.index[-5:], "plate"] = "p9"
    import scipy.sparse as sp

    from tests.worker.engine.simulated import Simulated

    both = Simulated(sp.vstack([own.counts, new.counts]).tocsr(), both_obs)
    query = write_canonical(folder, both, kind=reference.manifest.input)
    looks = reference.manifest.architecture.dispersion == "gene-label"
    labels = "cell_type" if looks or reference.manifest.kind == "scanvi" else None
    return surgery_on(reference, query, reuse_batches=True, labels_key=labels), 160


def test_reference_cells_keep_their_stored_latents(reference: Reference, tmp_path: Path) -> None:
    surgery, n = reference_beside_query(reference, tmp_path / "q")
    projected = surgery.project(nothing)
    recipe = reference.manifest.recipe("default").model_copy(update={"max_epochs": 3})
    trained = surgery.weights(surgery.fit(projected, recipe, nothing))
    latents = surgery.encode(projected, trained)
    assert np.array_equal(probabilities(surgery, latents)[:n], stored_probabilities(reference))
    mean, variance = stored(reference)
    assert np.array_equal(latents.mean[:n].numpy(), mean)
    assert np.array_equal(latents.variance[:n].numpy(), variance)


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**31), scale=st.sampled_from([1e-3, 1.0, 1e3, 1e6]))
def test_large_random_query_weights_change_nothing(
    reference: Reference, tmp_path_factory, seed: int, scale: float
) -> None:
    surgery, n = reference_beside_query(reference, tmp_path_factory.mktemp("q") / "q")
    projected = surgery.project(nothing)
    generator = torch.Generator().manual_seed(seed)
    weights = {
        name: scale * torch.randn(rows.shape, generator=generator)
        for name, rows in query_weights(graft(reference.cvae, surgery.design.n_new)).items()
    }
    latents = surgery.encode(projected, weights)
    mean, variance = stored(reference)
    assert np.array_equal(latents.mean[:n].numpy(), mean)
    assert np.array_equal(latents.variance[:n].numpy(), variance)
    assert np.array_equal(probabilities(surgery, latents)[:n], stored_probabilities(reference))
    if reference.manifest.surgery_has_effect and scale >= 1:
        start = surgery.encode(projected, None)
        assert not torch.equal(latents.mean[n:], start.mean[n:])


def test_a_fit_leaves_every_tensor_of_the_reference(reference: Reference, tmp_path: Path) -> None:
    before = {name: t.clone() for name, t in reference.cvae.state_dict().items()}
    surgery, _ = reference_beside_query(reference, tmp_path / "q")
    recipe = reference.manifest.recipe("scvi-tools").model_copy(update={"max_epochs": 2})
    surgery.fit(surgery.project(nothing), recipe, nothing)
    after = reference.cvae.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_registration_measured_the_same(reference: Reference) -> None:
    test = reference.manifest.self_test
    assert test is not None
    assert test.reference_reproduced
    assert test.n_cells_checked == 160
    assert CanonicalQuery.open(reference.folder.parent / "canonical").n_cells == 160
