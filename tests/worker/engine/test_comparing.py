"""The two orders of a ranking: which cells, and what one reference makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.problems import DamagedReference
from app.references import manifest_digest
from tests.worker.engine.simulated import (
    Reference,
    Simulated,
    nothing,
    simulate,
    write_canonical,
)
from tests.worker.engine.tissues import Atlas, build_atlas, tissue
from worker import comparing
from worker.orders import ExplainOrder, SampleOrder, as_json, from_json
from worker.reference_cache import ReferenceCache


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    return build_atlas(tmp_path_factory.mktemp("atlas"))


def sample(canonical: Path) -> list[int]:
    cells = comparing.run_sample(SampleOrder(canonical, threads=2, device="cpu"), nothing)["cells"]
    return list(cells)


def order(reference: Reference, canonical: Path) -> ExplainOrder:
    return ExplainOrder(
        canonical=canonical,
        bundle=reference.folder,
        manifest_sha256=manifest_digest(reference.manifest.model_dump(mode="json")),
        cells=tuple(sample(canonical)),
        threads=2,
        device="cpu",
    )


def test_a_query_is_told_the_tissue_that_it_is_of(atlas: Atlas, tmp_path: Path) -> None:
    references = ReferenceCache()
    for name in ("lung", "pancreas"):
        write_canonical(tmp_path / name, tissue(name, seed=8))
        explained = {
            reference.folder.parent.name: comparing.run_explain(
                order(reference, tmp_path / name), references, nothing
            )["explained"]
            for reference in (atlas.lung, atlas.pancreas)
        }
        assert max(explained, key=lambda each: float(explained[each])) == name
        assert explained[name] > 0.8


def test_the_same_cells_are_chosen_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "MOST_CELLS", 40)
    cells = tissue("lung", 120, seed=2)
    mixed = np.random.default_rng(0).permutation(120)
    write_canonical(tmp_path / "one", cells)
    write_canonical(tmp_path / "two", cells.take(mixed))
    first, second = sample(tmp_path / "one"), sample(tmp_path / "two")
    assert len(first) == 40
    assert first == sorted(mixed[second])


def test_cells_without_counts_are_not_chosen(tmp_path: Path) -> None:
    cells = tissue("lung", 30, seed=2)
    counts = cells.counts.toarray()
    counts[4] = 0
    empty = Simulated(type(cells.counts)(counts), cells.obs)
    write_canonical(tmp_path / "one", empty)
    assert sample(tmp_path / "one") == [cell for cell in range(30) if cell != 4]


def test_a_query_of_empty_cells_has_no_figure(atlas: Atlas, tmp_path: Path) -> None:
    cells = tissue("lung", 30, seed=2)
    write_canonical(tmp_path / "one", Simulated(cells.counts * 0, cells.obs))
    found = comparing.run_explain(order(atlas.lung, tmp_path / "one"), ReferenceCache(), nothing)
    assert found["explained"] is None


def test_values_of_another_kind_are_not_compared(atlas: Atlas, tmp_path: Path) -> None:
    write_canonical(tmp_path / "one", tissue("lung", 30, seed=2), kind="continuous")
    found = comparing.run_explain(order(atlas.lung, tmp_path / "one"), ReferenceCache(), nothing)
    assert found["explained"] is None
    assert "continuous" in found["why_not"]


def test_a_damaged_reference_is_a_problem(recommended: Reference, tmp_path: Path) -> None:
    write_canonical(tmp_path / "one", simulate({"c": 30}))
    damaged = Reference(tmp_path / "nothing", recommended.manifest, recommended.cvae)
    with pytest.raises(DamagedReference):
        comparing.run_explain(order(damaged, tmp_path / "one"), ReferenceCache(), nothing)


def test_orders_travel_as_json(tmp_path: Path) -> None:
    ordered = ExplainOrder(tmp_path, tmp_path, "0" * 64, (1, 5), threads=2, device="cpu")
    for each in (ordered, SampleOrder(tmp_path, threads=1, device="cpu")):
        assert from_json(as_json(each)) == each
