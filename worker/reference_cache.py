"""Loaded references, kept warm for the next job."""

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from app.problems import DamagedReference
from app.references import manifest_digest
from models_store.bundle import InvalidBundle, file_sha256, load_bundle
from models_store.manifest import MANIFEST_FILE, Manifest
from models_store.scvi import SCVI


@dataclass(frozen=True)
class LoadedReference:
    """A frozen reference in memory, under the digest by which the registry names it."""

    manifest: Manifest
    cvae: SCVI
    manifest_sha256: str


class ReferenceCache:
    """The references used last, by the hash of their manifest file; the oldest goes first."""

    def __init__(self, most: int = 8) -> None:
        self._most = most
        self._loaded: OrderedDict[tuple[str, str], LoadedReference] = OrderedDict()

    def get(self, folder: Path, device: str) -> LoadedReference:
        """The reference in a bundle's folder; the files are hashed when it is loaded first.

        Raises:
            DamagedReference: the bundle is incomplete, has changed, or does not load.
        """
        try:
            digest = file_sha256(folder / MANIFEST_FILE)
            if (digest, device) not in self._loaded:
                manifest, cvae = load_bundle(folder, device=device)
                named = manifest_digest(manifest.model_dump(mode="json"))
                self._loaded[digest, device] = LoadedReference(manifest, cvae, named)
        except (InvalidBundle, FileNotFoundError) as error:
            raise DamagedReference(
                f"The reference's files are damaged: {error}.",
                fix="Ask the administrator to run `cellgraft references verify` and to restore or "
                "rebuild this version.",
            ) from error
        self._loaded.move_to_end((digest, device))
        while len(self._loaded) > self._most:
            self._loaded.popitem(last=False)
        return self._loaded[digest, device]
