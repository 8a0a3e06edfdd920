"""References of every configuration, built once a session."""

from __future__ import annotations

import pytest
import torch

from tests.worker.engine.configurations import CONFIGURATIONS
from tests.worker.engine.simulated import Reference, build_reference, simulate


@pytest.fixture(scope="session", autouse=True)
def same_bytes() -> None:
    """As the compute child sets torch up."""
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)


@pytest.fixture(scope="session", params=list(CONFIGURATIONS))
def reference(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Reference:
    cells = simulate({"ref-a": 90, "ref-b": 70})
    options = dict(CONFIGURATIONS[request.param])
    unlabelled = options.get("unlabeled_category")
    if unlabelled:
        cells.obs.loc[cells.obs.index[::4], "cell_type"] = unlabelled
    return build_reference(tmp_path_factory.mktemp("reference"), cells, **options)


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    cells = simulate({"ref-a": 300, "ref-b": 300})
    cells.obs.loc[cells.obs.index[::3], "cell_type"] = "not known"
    return build_reference(
        tmp_path_factory.mktemp("labelled"),
        cells,
        kind="SCANVI",
        unlabeled_category="not known",
        max_epochs=20,
    )


@pytest.fixture(scope="session")
def recommended(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    cells = simulate({"ref-a": 300, "ref-b": 300})
    return build_reference(tmp_path_factory.mktemp("recommended"), cells, max_epochs=10)
