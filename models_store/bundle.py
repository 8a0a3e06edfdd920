"""A reference version on disk: safetensors, parquet and JSON, hashed, never a pickle.

manifest.json          what it is, and the sha256 of every other file
weights.safetensors    the frozen network
cells.parquet          reference latents (mean and variance), batch, labels
probe.safetensors      made-up cells, their latents and the probabilities of their labels, to prove
                       that a machine agrees
MODEL_CARD.md          the same for people
"""

from pathlib import Path

import pandas as pd
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from models_store.blocks import BLOCK
from models_store.cells import Cells
from models_store.cvae import CVAE
from models_store.digests import file_sha256
from models_store.encoding import encode, label_probabilities, project_block
from models_store.kinds import untrained
from models_store.manifest import MANIFEST_FILE, Manifest, SelfTest
from models_store.model_card import model_card
from models_store.scanvi import SCANVI
from models_store.surgery import graft, query_parameters

WEIGHTS_FILE = "weights.safetensors"
CELLS_FILE = "cells.parquet"
PROBE_FILE = "probe.safetensors"
CARD_FILE = "MODEL_CARD.md"
ALWAYS = (WEIGHTS_FILE, PROBE_FILE, CARD_FILE)
"""What every bundle holds beside its manifest. An import without cells has no cells.parquet."""

N_PROBES = 64
PROBE_DEPTH = 2000.0
LARGE_QUERY_WEIGHT = 1e3
MACHINE_TOLERANCE = 1e-4
"""Two machines may round differently; a wrong file is off by orders of magnitude more."""


class InvalidBundle(Exception):
    """A bundle is damaged, incomplete, or does not do on this machine what its manifest says."""


def write_bundle(
    folder: Path, manifest: Manifest, cvae: CVAE, cells: pd.DataFrame, *, reproduced: bool
) -> Manifest:
    """Write a bundle, test it as a worker will use it, and return its complete manifest.

    Args:
        folder: an existing empty folder.
        manifest: everything but `files` and `self_test`.
        cvae: the trained network, in eval mode.
        cells: one row per reference cell, indexed by cell name: columns `latent_0 ...`,
            `variance_0 ...`, `batch`, and one for each label level.
        reproduced: whether every one of these cells came out bit for bit when encoded again with
            large query weights.

    Raises:
        InvalidBundle: the bundle does not load again, or its probes map elsewhere.
    """
    cells.to_parquet(folder / CELLS_FILE)
    return seal_bundle(folder, manifest, cvae, reproduced=reproduced, n_checked=len(cells))


def seal_bundle(
    folder: Path, manifest: Manifest, cvae: CVAE, *, reproduced: bool | None, n_checked: int
) -> Manifest:
    """The same for a folder that may hold cells.parquet already; without it a bundle has no cells.

    Args:
        folder: an existing folder with nothing else in it.
        manifest: everything but `files` and `self_test`.
        cvae: the trained network, in eval mode.
        reproduced: as in `write_bundle`; None where there were no counts to encode.
        n_checked: how many cells that was measured on.

    Raises:
        InvalidBundle: the bundle does not load again, or its probes map elsewhere.
    """
    state = {name: t.contiguous().cpu() for name, t in cvae.state_dict().items() if t.numel()}
    save_file(state, folder / WEIGHTS_FILE)
    x = probe_cells(manifest)
    save_file({"x": x, **_map_probes(manifest, cvae, x)}, folder / PROBE_FILE)
    (folder / CARD_FILE).write_text(model_card(manifest), encoding="utf-8")
    names = [*ALWAYS, *([CELLS_FILE] if (folder / CELLS_FILE).exists() else [])]
    files = {name: file_sha256(folder / name) for name in names}
    complete = manifest.model_copy(update={"files": files})
    _write_manifest(folder, complete)
    tested = self_test(folder, reproduced=reproduced, n_checked=n_checked)
    complete = complete.model_copy(update={"self_test": tested})
    _write_manifest(folder, complete)
    return complete


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle.

    Raises:
        InvalidBundle: it is missing or not a manifest of a version that we know.
    """
    try:
        return Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    except FileNotFoundError as error:
        raise InvalidBundle(f"{MANIFEST_FILE} is missing") from error
    except ValidationError as error:
        raise InvalidBundle(f"{MANIFEST_FILE} is not a manifest that we know: {error}") from error


def check_hashes(folder: Path, manifest: Manifest) -> None:
    """Compare every file with the hash in the manifest.

    Raises:
        InvalidBundle: a file is missing or has changed.
    """
    for name in {*ALWAYS, *manifest.files}:
        if name not in manifest.files:
            raise InvalidBundle(f"the manifest has no hash of {name}")
        path = folder / name
        if not path.is_file():
            raise InvalidBundle(f"{name} is missing")
        if file_sha256(path) != manifest.files[name]:
            raise InvalidBundle(f"{name} has changed since the version was made")


def load_bundle(folder: Path, *, device: str = "cpu") -> tuple[Manifest, CVAE]:
    """Check the hashes, then load the frozen network in eval mode.

    Raises:
        InvalidBundle: a file is missing, has changed, or does not fit the manifest.
    """
    manifest = read_manifest(folder)
    check_hashes(folder, manifest)
    cvae = untrained(manifest)
    state = load_file(folder / WEIGHTS_FILE)
    empty = {name: t for name, t in cvae.state_dict().items() if not t.numel()}
    try:
        cvae.load_state_dict(state | empty)
    except RuntimeError as error:
        raise InvalidBundle(f"the weights do not fit the manifest: {error}") from error
    for parameter in cvae.parameters():
        parameter.requires_grad_(False)
    return manifest, cvae.eval().to(device)


def probe_cells(manifest: Manifest) -> torch.Tensor:
    """Made-up cells of the expected expression: the same for the same manifest, nobody's data."""
    share = torch.tensor(manifest.expected_expression, dtype=torch.float64)
    generator = torch.Generator().manual_seed(manifest.provenance.seed)
    depth = PROBE_DEPTH * (0.5 + torch.rand(N_PROBES, 1, generator=generator, dtype=torch.float64))
    return torch.poisson(depth * share, generator=generator).float()


def _map_probes(manifest: Manifest, cvae: CVAE, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Latents, and label probabilities where a reference gives them."""
    n = len(x)
    device = cvae.device
    codes = tuple(
        torch.zeros(n, dtype=torch.int64, device=device)
        for _ in (manifest.batch, *manifest.extra_covariates)
    )
    n_continuous = len(manifest.continuous_covariates)
    cells = Cells(
        x.to(device),
        codes,
        torch.zeros(n, n_continuous, device=device) if n_continuous else None,
        None,
        torch.ones(n, device=device),
    )
    latent = encode(cvae, project_block(cvae, cells), codes).mean
    found = {"latent": latent.cpu()}
    if isinstance(cvae, SCANVI):
        found["probabilities"] = torch.cat(list(label_probabilities(cvae, latent))).cpu()
    return found


def with_large_query_weights(cvae: CVAE, *, seed: int = 0) -> CVAE:
    """The reference with two new categories per covariate whose weights are absurdly large.

    Cells of reference categories must not notice: the invariance that registration proves.
    """
    grafted = graft(cvae, [2] * len(cvae.n_categories))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in query_parameters(grafted).values():
            parameter.copy_(LARGE_QUERY_WEIGHT * torch.randn(parameter.shape, generator=generator))
    return grafted


def verify_bundle(folder: Path) -> Manifest:
    """Prove a bundle again: hashes, network, probe cells.

    Raises:
        InvalidBundle: something is not as it was made.
    """
    manifest = read_manifest(folder)
    self_test(folder, reproduced=False, n_checked=0)
    return manifest


def self_test(folder: Path, *, reproduced: bool | None, n_checked: int) -> SelfTest:
    """Load the bundle as a worker will and map its padded probe cells.

    Args:
        folder: the bundle.
        reproduced: whether the reference's cells came out bit for bit with large query weights;
            measured where the counts are at hand, else None.
        n_checked: how many cells that was measured on.

    Raises:
        InvalidBundle: the bundle does not load, or its probes map elsewhere on this machine.
    """
    manifest, cvae = load_bundle(folder)
    stored = load_file(folder / PROBE_FILE)
    got = _map_probes(manifest, with_large_query_weights(cvae), stored["x"])
    if stored.keys() != {"x", *got}:
        raise InvalidBundle(f"{PROBE_FILE} has not what a reference of this kind gives")
    if not all(torch.isfinite(found).all() for found in got.values()):
        raise InvalidBundle("padded cells map to coordinates that are not finite")
    for name, found in got.items():
        difference = float((found - stored[name]).abs().max())
        scale = float(stored[name].abs().max())
        if difference > MACHINE_TOLERANCE * max(scale, 1.0):
            raise InvalidBundle(
                f"the {name} of the probe cells is {difference:.2g} away from what it was"
            )
    return SelfTest(
        weights_load=True,
        encoder_sees_batch=manifest.surgery_has_effect,
        padded_cells_map=len(stored["x"]) < BLOCK,
        reference_reproduced=reproduced,
        n_cells_checked=n_checked,
    )
