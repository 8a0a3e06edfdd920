"""Labels that a SCANVI mapping predicts, beside scvi-tools', on cells of another condition.

The reference holds the control cells of two donors with their labels (Kang et al. 2018), the query
their stimulated cells. Each seed trains scvi-tools' reference and ours, and maps with each.

The bar: our share of right labels is not below theirs by more than max(0.01, 2 standard errors) of
the difference, which is paired by seed and cell. It is asked twice: on the very same reference
(scvi-tools', its weights put into our network), and with our own against theirs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import numpy.typing as npt
import torch

from bench import hosted, yardstick
from bench.measure import keep
from models_store.cells import Cells, select_cells
from models_store.encoding import label_probabilities
from models_store.kinds import untrained
from models_store.manifest import Manifest
from models_store.scanvi import SCANVI
from tests.parity.convert import translate
from worker.reference_training import Schedule, default_epochs, split_cells, train_reference

DATA = Path(os.environ.get("BENCH_DATA", "../shared/data")) / "kang_muscat_1556"
SEEDS = range(5)
QUERY_EPOCHS = 100
SMALLEST_BAR = 0.01
PAIRS = {
    "same reference (theirs, from SCVI)": ("ours on theirs", "theirs"),
    "same reference (theirs, from scratch)": ("ours on theirs from scratch", "theirs from scratch"),
    "own against theirs (from SCVI)": ("ours", "theirs"),
    "own against theirs (from scratch)": ("ours", "theirs from scratch"),
}
"""What is compared: ours, and scvi-tools'."""

WAYS: dict[str, Callable[..., Any]] = {
    "": yardstick.labelled_reference,
    " from scratch": yardstick.labelled_reference_from_scratch,
}
"""How scvi-tools' reference is trained."""

Right = npt.NDArray[np.bool_]


def run() -> None:
    path = DATA / "kang_muscat_1556.h5ad"
    if not path.exists():
        sys.stdout.write(
            f"scanvi: skipped, since {path} is not there (BENCH_DATA names the folder).\n"
        )
        return
    torch.set_num_threads(1)
    reference, query = read(path)
    right: dict[str, list[Right]] = {}
    for seed in SEEDS:
        for name, found in _map_all(reference, query, seed).items():
            right.setdefault(name, []).append(found == query.obs["cell_type"].to_numpy())
            share = right[name][-1].mean()
            sys.stdout.write(f"scanvi: seed {seed}, {name}: {share:.4f}\n")
            sys.stdout.flush()
    keep_figures(reference, query, right)


def read(path: Path) -> tuple[anndata.AnnData, anndata.AnnData]:
    """The cells of the reference, and those of the query."""
    cells = anndata.read_h5ad(path)
    is_control = cells.obs["condition"] == "ctrl"
    return cells[is_control].copy(), cells[~is_control].copy()


def keep_figures(
    reference: anndata.AnnData, query: anndata.AnnData, right: dict[str, list[Right]]
) -> None:
    """Shares of right labels by seed, and whether the bar is met."""
    stacked = {name: np.stack(found) for name, found in right.items()}
    keep(
        "scanvi",
        {
            "n_reference": reference.n_obs,
            "n_query": query.n_obs,
            "seeds": len(stacked["ours"]),
            "accuracy": {
                name: [round(float(share), 4) for share in found.mean(axis=1)]
                for name, found in stacked.items()
            },
            "compared": {
                name: _compare(stacked[ours], stacked[theirs])
                for name, (ours, theirs) in PAIRS.items()
            },
        },
    )


def _compare(ours: Right, theirs: Right) -> dict[str, Any]:
    """The difference of shares with its standard error over cells and over seeds."""
    difference = ours.astype(float) - theirs  # (seeds, cells)
    of_cells, of_seeds = difference.mean(axis=0), difference.mean(axis=1)
    variance = of_cells.var(ddof=1) / len(of_cells) + of_seeds.var(ddof=1) / len(of_seeds)
    mean, error = float(difference.mean()), float(np.sqrt(variance))
    bar = max(SMALLEST_BAR, 2 * error)
    return {
        "ours": round(float(ours.mean()), 4),
        "theirs": round(float(theirs.mean()), 4),
        "difference": round(mean, 4),
        "standard_error": round(error, 4),
        "bar": round(-bar, 4),
        "passes": mean >= -bar,
    }


def _map_all(reference: anndata.AnnData, query: anndata.AnnData, seed: int) -> dict[str, Any]:
    """The label of every query cell, by who predicted it."""
    manifest = hosted.manifest(reference, kind="scanvi", seed=seed)
    found = {"ours": _predict(manifest, _train(manifest, reference, seed), query)}
    for way in WAYS:
        found |= _map_onto_theirs(manifest, reference, query, seed, way)
    return found


def _map_onto_theirs(
    manifest: Manifest, reference: anndata.AnnData, query: anndata.AnnData, seed: int, way: str
) -> dict[str, Any]:
    theirs = WAYS[way](reference.copy(), seed=seed)
    network = untrained(manifest)
    network.load_state_dict(translate(network, theirs.module.state_dict()))
    return {
        f"ours on theirs{way}": _predict(manifest, network, query),
        f"theirs{way}": yardstick.predict(query.copy(), theirs, epochs=QUERY_EPOCHS),
    }


def _train(manifest: Manifest, reference: anndata.AnnData, seed: int) -> SCANVI:
    batches, labels = manifest.batch.categories, manifest.labels[0].categories
    cells = Cells(
        torch.from_numpy(reference.X.toarray().astype(np.float32)),
        (torch.tensor([batches.index(name) for name in reference.obs["batch"]]),),
        labels=torch.tensor([labels.index(name) for name in reference.obs["cell_type"]]),
    )
    training, held_out = split_cells(reference.n_obs, 0.1, seed)
    torch.manual_seed(seed)
    network = untrained(manifest)
    train_reference(
        network,
        select_cells(cells, training),
        select_cells(cells, held_out),
        Schedule(default_epochs(reference.n_obs), seed),
        lambda done: None,
    )
    assert isinstance(network, SCANVI)
    return network


def _predict(manifest: Manifest, network: Any, query: anndata.AnnData) -> Any:
    """As a mapping with recipe `default` does; nothing of the query's labels is seen."""
    surgery = hosted.surgery(manifest, network, query)
    projected = surgery.project(hosted.quiet)
    fits = surgery.fit(projected, manifest.recipe("default"), hosted.quiet)
    latents = surgery.encode(projected, surgery.weights(fits))
    p = torch.cat(list(label_probabilities(network, latents.mean)))
    return np.array(manifest.labels[0].categories)[p.argmax(1).numpy()]
