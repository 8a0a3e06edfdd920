"""Maps what was accepted, in the service's own compute child, and looks at the answer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from app.problems import Problem
from app.references import manifest_digest
from models_store.bundle import load_bundle
from tests.worker.engine.simulated import nothing
from tests.worker.intake import files
from worker.building import run_build
from worker.child_process import ChildProcess
from worker.intake.check import Request, check_upload
from worker.intake.folder import CanonicalFolder
from worker.intake.samples import UploadedFile
from worker.orders import BuildOrder, MapOrder
from worker.outcomes import WorkerDied

from .bases import GENES
from .proof import LIMITS

MAP_SECONDS = 10.0
WHOLE_RECIPE = 20
"""Every so manieth query is also fitted; the others are mapped by recipe `forward`."""


class Mapper:
    """A tiny reference with the genes of the bases, and a child that maps onto it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._digest = _build(folder)
        self._child = ChildProcess(threads=1, stall_seconds=MAP_SECONDS)
        self._child.start()
        self._known: set[str] = set()

    def close(self) -> None:
        self._child.stop()

    def map(self, canonical: Path, accepted: dict[str, Any]) -> tuple[str, str | None]:
        """What became of an accepted query, and which promise that breaks.

        A mapping is a function of the canonical query alone: one that was mapped is not again.
        """
        if accepted["digest"] in self._known:
            return "same as before", None
        self._known.add(accepted["digest"])
        out = self._folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        try:
            self._child.run(self._order(canonical, out, accepted))
        except Problem as problem:
            broken = problem.status >= 500 or problem.type == "not-finite"
            return f"refused: {problem.type}", f"mapping: {problem.type}" if broken else None
        except WorkerDied as error:
            self._child.start()
            return "died", f"mapping: {error}"
        return "mapped", _look_at(np.load(out / "latent.npy"), accepted["n_cells"])

    def _order(self, canonical: Path, out: Path, accepted: dict[str, Any]) -> MapOrder:
        fitted = len(self._known) % WHOLE_RECIPE == 0
        return MapOrder(
            mapping_id="fuzz",
            canonical=canonical,
            bundle=self._folder / "bundle",
            manifest_sha256=self._digest,
            out=out,
            options={
                "batch_key": ["sample"] if accepted["has_sample"] else [],
                "recipe": "default" if fitted else "forward",
            },
            query_facts={"filename": "fuzz.h5ad", "sha256": "0" * 64},
            threads=1,
            device="cpu",
        )


def _look_at(latent: np.ndarray, n_cells: int) -> str | None:
    if len(latent) != n_cells:
        return "mapping: other number of rows"
    return None if np.isfinite(latent).all() else "mapping: latents not finite"


def _build(folder: Path) -> str:
    """Build the reference; returns the digest of its manifest."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = files.write_h5ad(folder / "reference.h5ad", files.counts(200, GENES, seed=1))
    sink = CanonicalFolder(folder / "canonical", quota=2**30)
    sink.finish(check_upload([UploadedFile(path)], Request(), LIMITS, sink))
    (folder / "bundle").mkdir()
    options = {"batch_key": "sample", "labels_keys": [], "max_epochs": 2, "seed": 0}
    options["architecture"] = {"n_hidden": 16, "n_latent": 4}
    order = BuildOrder(
        name="fuzz",
        version=1,
        canonical=folder / "canonical",
        out=folder / "bundle",
        options=options,
        source={},
        threads=1,
        device="cpu",
    )
    run_build(order, nothing)
    manifest, _ = load_bundle(folder / "bundle")
    return manifest_digest(manifest.model_dump(mode="json"))
