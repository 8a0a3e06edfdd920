"""What mappings are worth, beside scvi-tools' surgery on the very same reference.

A slice is a scenario with a seed: our trainer makes the reference, every way maps the query, and
labels by the weighted vote of 15 neighbours, mixing and retained response are judged. PARTS, SEEDS
and SCENARIOS (each by commas) and DRAWS choose; REFERENCES names where trained references stay.

scvi-tools' two schedules are stepped by our engine, which takes the same steps (`make parity`), and
scvi-tools itself, with our weights put in, maps as well.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import torch

from bench import yardstick
from bench.accuracy_summary import WHAT, summary
from bench.kept_slices import KeptSlices
from bench.landing import Landing
from bench.mappings import OURS, THEIRS, BenchQuery, BenchReference
from bench.scenarios import SCENARIOS, Scenario, SetIsAway, scenario

SEEDS = range(5)
DRAWS = int(os.environ.get("DRAWS", "20"))
"""Of each size of small queries, shared out among the seeds."""
SIZES = (20, 50, 200, 1000)
MOSTLY_LABELLED = 0.5
MOST_BATCHES, OF_A_BATCH = 100, 30


def run() -> None:
    torch.set_num_threads(1)
    names = os.environ.get("SCENARIOS", ",".join(SCENARIOS)).split(",")
    folder = Path(os.environ.get("REFERENCES") or tempfile.mkdtemp(prefix="references-"))
    folder.mkdir(parents=True, exist_ok=True)
    slices = KeptSlices("accuracy", lambda found: {"what": WHAT, **summary(found)})
    for part in os.environ.get("PARTS", ",".join(PARTS)).split(","):
        for seed in map(int, os.environ.get("SEEDS", ",".join(map(str, SEEDS))).split(",")):
            for name in names:
                _slice(slices, (name, seed, part), folder)
    for line in summary(slices.found)["lines"]:
        sys.stdout.write(f"accuracy: {line}\n")


def _slice(slices: KeptSlices, key: tuple[str, int, str], folder: Path) -> None:
    name, seed, part = key
    try:
        slices.add(
            f"{name}, seed {seed}, {part}",
            lambda: PARTS[part](scenario(name, seed), seed, folder),
        )
    except SetIsAway as away:
        sys.stdout.write(f"accuracy: {name} skipped, since {away} is not there (BENCH_DATA).\n")


def _ways(chosen: Scenario, seed: int, folder: Path) -> Any:
    """Every way on the whole query."""
    reference = _reference(chosen, seed, folder)
    query = BenchQuery(reference, chosen.query)
    landing = Landing(reference, chosen, seed)
    return {way: landing.figures(by(query)) for way, by in {**OURS, **THEIRS}.items()}


def _itself(chosen: Scenario, seed: int, folder: Path) -> Any:
    """scvi-tools with our weights."""
    reference = _reference(chosen, seed, folder)
    onto = yardstick.with_weights(chosen.reference.copy(), reference.network)
    off = float(np.abs(onto.get_latent_representation() - reference.latents).max())
    assert off < 1e-3, f"the reference's latents differ by {off}"
    landing = Landing(reference, chosen, seed)
    return {
        way: landing.figures(
            yardstick.surgery_latents(
                chosen.query.copy(), onto, early_stopping=way == "early stopping", seed=seed
            )
        )
        for way in THEIRS
    }


def _small(chosen: Scenario, seed: int, folder: Path) -> Any:
    """Ours on some of the query's cells; none where few have a label."""
    reference = _reference(chosen, seed, folder)
    if Landing(reference, chosen, seed).share_labelled < MOSTLY_LABELLED:
        return {}
    return {
        str(size): [_draw(reference, chosen, size, seed, draw) for draw in _draws(seed)]
        for size in SIZES
        if size < chosen.query.n_obs
    }


def _draws(seed: int) -> range:
    """Which of all draws are this seed's."""
    return range(seed, DRAWS, len(SEEDS))


def _draw(reference: BenchReference, chosen: Scenario, size: int, seed: int, draw: int) -> Any:
    rng = np.random.default_rng([draw, size])
    some = np.sort(rng.choice(chosen.query.n_obs, size, replace=False))
    part = Scenario(chosen.name, chosen.reference, chosen.query[some].copy(), is_matched=False)
    query, landing = BenchQuery(reference, part.query), Landing(reference, part, seed)
    return {way: landing.labels(by(query)) for way, by in OURS.items()}


def _batches(chosen: Scenario, seed: int, folder: Path) -> Any:
    """Ours on cells that are taken for many small batches, at random, each fitted by itself."""
    reference = _reference(chosen, seed, folder)
    order = np.random.default_rng(seed).permutation(chosen.query.n_obs)[: MOST_BATCHES * OF_A_BATCH]
    cells = chosen.query[np.sort(order)].copy()
    numbers = np.random.default_rng(seed).permutation(cells.n_obs) // OF_A_BATCH
    cells.obs["batch"] = [f"batch {number}" for number in numbers]
    part = Scenario(chosen.name, chosen.reference, cells, is_matched=chosen.is_matched)
    query, landing = BenchQuery(reference, cells), Landing(reference, part, seed)
    found: dict[str, Any] = {"batches": int(numbers.max()) + 1}
    for way, by in OURS.items():
        began = time.monotonic()
        found[way] = landing.figures(by(query))
        found[way]["seconds"] = round(time.monotonic() - began, 1)
    return found


def _together(chosen: Scenario, seed: int, folder: Path) -> Any:
    """An scVI trained on reference and query alike, batch by batch, where conditions are judged."""
    if chosen.control is None:
        return {}
    both = anndata.concat([chosen.reference, chosen.query])
    kept = folder / f"{chosen.name}-{seed}-together.safetensors"
    trained = BenchReference.train(both, seed, kept)
    n = chosen.reference.n_obs
    return Landing(trained, chosen, seed, n_reference=n).figures(trained.latents[n:])


def _reference(chosen: Scenario, seed: int, folder: Path) -> BenchReference:
    return BenchReference.train(
        chosen.reference, seed, folder / f"{chosen.name}-{seed}.safetensors"
    )


PARTS: dict[str, Callable[[Scenario, int, Path], Any]] = {
    "ways": _ways,
    "together": _together,
    "scvi-tools itself": _itself,
    "small": _small,
    "batches": _batches,
}
