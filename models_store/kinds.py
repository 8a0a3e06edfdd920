"""Which network each kind of reference is."""

from collections.abc import Mapping

from models_store.manifest import Kind, Manifest
from models_store.scanvi import SCANVI
from models_store.scvi import SCVI

NETWORKS: Mapping[Kind, type[SCVI]] = {"scvi": SCVI, "scanvi": SCANVI}


def untrained(manifest: Manifest) -> SCVI:
    """The network that a manifest describes, with weights drawn at random."""
    return NETWORKS[manifest.kind].of(manifest)
