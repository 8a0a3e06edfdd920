"""References stay loaded within a bound of memory; the one unused longest goes first."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from app.references import manifest_digest
from models_store.manifest import MANIFEST_FILE
from tests.worker.engine.simulated import Reference
from worker.reference_cache import LoadedReference, ReferenceCache


class Shelf:
    """The same network as several versions."""

    def __init__(self, made: Reference, folder: Path) -> None:
        self.folders = {name: folder / name for name in "abc"}
        for name, copy in self.folders.items():
            shutil.copytree(made.folder, copy)
            manifest = json.loads((copy / MANIFEST_FILE).read_text())
            (copy / MANIFEST_FILE).write_text(json.dumps({**manifest, "name": name}))

    def digest(self, name: str) -> str:
        return manifest_digest(json.loads((self.folders[name] / MANIFEST_FILE).read_bytes()))

    def get(self, cache: ReferenceCache, name: str) -> LoadedReference:
        return cache.get(self.folders[name], self.digest(name), "cpu")

    def names(self, cache: ReferenceCache) -> str:
        of = {self.digest(name): name for name in self.folders}
        return "".join(of[digest] for digest in cache.digests)


@pytest.fixture
def shelf(recommended: Reference, tmp_path: Path) -> Shelf:
    return Shelf(recommended, tmp_path)


def test_what_it_takes_is_counted(shelf: Shelf) -> None:
    loaded = shelf.get(ReferenceCache(), "a")
    tensors = loaded.cvae.state_dict().values()
    weights = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    manifest = (shelf.folders["a"] / MANIFEST_FILE).stat().st_size
    assert weights + manifest <= loaded.n_bytes < weights + manifest + 5000


def test_the_one_unused_longest_goes_when_memory_is_short(shelf: Shelf) -> None:
    each = shelf.get(ReferenceCache(), "a").n_bytes
    cache = ReferenceCache(2 * each)
    first = shelf.get(cache, "a")
    shelf.get(cache, "b")
    assert shelf.names(cache) == "ba"
    assert shelf.get(cache, "a") is first
    shelf.get(cache, "c")
    assert shelf.names(cache) == "ca"
    shelf.get(cache, "b")
    assert shelf.names(cache) == "bc"


def test_one_beyond_the_bound_is_loaded_alone(shelf: Shelf) -> None:
    cache = ReferenceCache(1)
    for name in "ab":
        assert shelf.get(cache, name).manifest.name == name
        assert shelf.names(cache) == name
