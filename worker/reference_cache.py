"""Loaded references, kept warm for the next job."""

import json
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from app.problems import DamagedReference
from app.references import manifest_digest
from models_store.bundle import CELLS_FILE, WEIGHTS_FILE, InvalidBundle, load_bundle
from models_store.cvae import CVAE
from models_store.digests import file_sha256
from models_store.manifest import MANIFEST_FILE, Manifest
from models_store.misfit import Misfit
from worker.orders import WARM_BYTES
from worker.reference_latents import sample_latents
from worker.restraint import MOST_AMONG

IN_MEMORY = (WEIGHTS_FILE, MANIFEST_FILE)


@dataclass(frozen=True)
class LoadedReference:
    """A frozen reference in memory, under the digest by which the registry names it."""

    manifest: Manifest
    cvae: CVAE
    manifest_sha256: str
    latents: Tensor | None = None
    """Of some of its cells, (r, z), on the network's device; None: it came without cells."""
    n_bytes: int = 0
    """What it takes in memory: its weights, as many as on the disk, and its manifest."""
    simulated: dict[int, Misfit] = field(default_factory=dict)
    """By library size: the misfit of simulated cells, once it has been asked for."""


class ReferenceCache:
    """The references used last, by the hash of their manifest file; the oldest goes first.

    They go before another comes, so that all together never exceed the bound. One that does so by
    itself is loaded all the same, alone.
    """

    def __init__(self, most_bytes: int = WARM_BYTES) -> None:
        self.most_bytes = most_bytes
        self._loaded: OrderedDict[tuple[str, str], LoadedReference] = OrderedDict()

    @property
    def digests(self) -> list[str]:
        """By which the registry knows those that are loaded, the last used first."""
        return list(dict.fromkeys(each.manifest_sha256 for each in reversed(self._loaded.values())))

    def get(self, folder: Path, manifest_sha256: str, device: str) -> LoadedReference:
        """The reference in a bundle's folder; the files are hashed when it is loaded first.

        Args:
            folder: the bundle's.
            manifest_sha256: the digest by which the registry knows the version.
            device: where the network is to be.

        Raises:
            DamagedReference: the bundle is incomplete, has changed, or does not load.
        """
        try:
            digest = file_sha256(folder / MANIFEST_FILE)
            if (digest, device) not in self._loaded:
                n_bytes = sum((folder / name).stat().st_size for name in IN_MEMORY)
                self._make_room(n_bytes)
                manifest, cvae = load_bundle(folder, device=device)
                # Of the file as it was written: a later release may know more fields than it has.
                named = manifest_digest(json.loads((folder / MANIFEST_FILE).read_bytes()))
                latents = _latents(folder, manifest, device)
                self._loaded[digest, device] = LoadedReference(
                    manifest, cvae, named, latents, n_bytes
                )
        except (InvalidBundle, FileNotFoundError) as error:
            raise _damaged(str(error)) from error
        if self._loaded[digest, device].manifest_sha256 != manifest_sha256:
            raise _damaged("they are of another version than the one that is registered")
        self._loaded.move_to_end((digest, device))
        return self._loaded[digest, device]

    def _make_room(self, coming: int) -> None:
        room = self.most_bytes - coming
        while self._loaded and sum(each.n_bytes for each in self._loaded.values()) > room:
            self._loaded.popitem(last=False)


def _latents(folder: Path, manifest: Manifest, device: str) -> Tensor | None:
    if CELLS_FILE not in manifest.files:
        return None
    found = sample_latents(folder / CELLS_FILE, MOST_AMONG)
    return None if found is None else found.to(device)


def _damaged(how: str) -> DamagedReference:
    return DamagedReference(
        f"The reference's files are damaged: {how}.",
        fix="Ask the administrator to run `cellgraft references verify` and to restore or rebuild "
        "this version.",
    )
