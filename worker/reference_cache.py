"""Loaded references, kept warm for the next job."""

from collections import OrderedDict
from pathlib import Path

from app.problems import DamagedReference
from models_store.bundle import InvalidBundle, load_bundle
from models_store.manifest import Manifest
from models_store.scvi import SCVI


class ReferenceCache:
    """The references used last, by the hash of their manifest; the oldest goes first."""

    def __init__(self, most: int = 8) -> None:
        self._most = most
        self._loaded: OrderedDict[tuple[str, str], tuple[Manifest, SCVI]] = OrderedDict()

    def get(self, folder: Path, digest: str, device: str) -> tuple[Manifest, SCVI]:
        """The manifest and the frozen network of a bundle.

        Raises:
            DamagedReference: the bundle is incomplete, has changed, or does not load.
        """
        key = (digest or str(folder), device)
        if key not in self._loaded:
            try:
                self._loaded[key] = load_bundle(folder, device=device)
            except InvalidBundle as error:
                raise DamagedReference(
                    f"The reference's files are damaged: {error}.",
                    fix="Ask the administrator to run `cellgraft references verify` and to restore "
                    "or rebuild this version.",
                ) from error
        self._loaded.move_to_end(key)
        while len(self._loaded) > self._most:
            self._loaded.popitem(last=False)
        return self._loaded[key]
