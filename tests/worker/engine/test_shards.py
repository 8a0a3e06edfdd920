"""A query read in shards is mapped to the same bytes as one that is read whole."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from app.problems import UnknownBatchColumn
from models_store.blocks import BLOCK, shard_ranges
from models_store.manifest import Manifest
from tests.worker.engine.simulated import Reference, Simulated, nothing, shard_of, simulate
from tests.worker.engine.test_mapping import order
from worker.canonical import CanonicalQuery
from worker.mapping import run_mapping
from worker.orders import MapOrder, as_json, from_json
from worker.packed_counts import CHUNK, OwnCounts, owned_chunks, store_packed
from worker.projecting import run_shard
from worker.reference_cache import ReferenceCache
from worker.shards import SampledShards, read_shards

SIZES = {"c": 1500, "d": 40, "ref-a": 900}
TIMED = {"provenance.json"}


def shuffled(seed: int = 3) -> Simulated:
    """Batches that lie across all shards, one of them within the reference."""
    cells = simulate(SIZES, seed=seed)
    return cells.take(np.random.default_rng(seed).permutation(sum(SIZES.values())))


def read_in_shards(whole: MapOrder, folder: Path, shard_cells: int) -> MapOrder:
    """The same order, after others have read its cells."""
    n_cells = sum(SIZES.values())
    folders = []
    for number, (start, stop) in enumerate(shard_ranges(n_cells, shard_cells)):
        out = folder / f"shard-{number}"
        out.mkdir()
        shard = shard_of(whole, out, start, stop)
        run_shard(shard, ReferenceCache(), nothing)
        folders.append(out)
    (folder / "joined").mkdir()
    return dataclasses.replace(whole, out=folder / "joined", shards=tuple(folders))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in TIMED}


def untimed(told: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name != "seconds"}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Changes every recipe: a few epochs show what many would, and so do a few draws of `ln`."""
    recipe = Manifest.recipe
    monkeypatch.setattr("models_store.cvae.LN_SAMPLES", 20)

    def change(**values: Any) -> None:
        monkeypatch.setattr(
            Manifest, "recipe", lambda *given: recipe(*given).model_copy(update=values)
        )

    return change


@pytest.mark.parametrize("recipe", ["default", "scvi-tools"])
def test_every_file_is_the_same_bytes(
    reference: Reference, tmp_path: Path, short: Callable[..., None], recipe: str
) -> None:
    short(max_epochs=2)
    by_label = reference.manifest.architecture.dispersion == "gene-label"
    labels = "cell_type" if by_label or reference.manifest.kind == "scanvi" else None
    options = {"recipe": recipe, "reuse_batches": True, "labels_key": labels}
    whole = order(reference, tmp_path, shuffled(), **options)
    told = run_mapping(whole, ReferenceCache(), nothing)
    joined = read_in_shards(whole, tmp_path, BLOCK)
    assert len(joined.shards) == 3
    again = run_mapping(joined, ReferenceCache(), nothing)
    assert contents(joined.out) == contents(whole.out)
    assert untimed(again) == untimed(told)


def test_a_sample_smaller_than_the_batch_is_the_same(
    recommended: Reference, tmp_path: Path, short: Callable[..., None]
) -> None:
    short(sample_size=100, max_epochs=5)
    whole = order(recommended, tmp_path, shuffled())
    told = run_mapping(whole, ReferenceCache(), nothing)
    joined = read_in_shards(whole, tmp_path, BLOCK)
    assert untimed(run_mapping(joined, ReferenceCache(), nothing)) == untimed(told)
    assert contents(joined.out) == contents(whole.out)
    kept = [len(np.load(folder / "sample.cells.npy")) for folder in joined.shards]
    assert told["batches"][0]["n_training_cells"] == 90
    assert all(100 < n <= 100 + SIZES["d"] + 100 for n in kept)  # not all 1,500 cells of a batch


def test_the_joined_file_holds_every_count(recommended: Reference, tmp_path: Path) -> None:
    cells = shuffled()
    forward = order(recommended, tmp_path, cells, recipe="forward")
    joined = read_in_shards(forward, tmp_path, 2 * BLOCK)
    run_mapping(joined, ReferenceCache(), nothing)
    back = anndata.read_h5ad(joined.out / "query.h5ad")
    assert (cells.counts != back.X).nnz == 0
    assert len(read_shards(joined.shards).parts) == 2


def test_a_mapping_that_reads_shards_reads_no_counts(
    recommended: Reference, tmp_path: Path
) -> None:
    whole = order(recommended, tmp_path, shuffled(), recipe="forward")
    joined = read_in_shards(whole, tmp_path, BLOCK)
    for name in ("indices", "data"):
        kept = np.load(whole.canonical / f"{name}.npy")
        np.save(whole.canonical / f"{name}.npy", np.zeros_like(kept))
    run_mapping(joined, ReferenceCache(), nothing)
    back = anndata.read_h5ad(joined.out / "query.h5ad")
    assert back.X.sum() == shuffled().counts.sum()


def test_a_shard_refuses_what_a_mapping_refuses(recommended: Reference, tmp_path: Path) -> None:
    whole = order(recommended, tmp_path, shuffled(), batch_key=["nowhere"])
    with pytest.raises(UnknownBatchColumn):
        read_in_shards(whole, tmp_path, BLOCK)


def test_shards_that_do_not_follow_each_other_are_refused(
    recommended: Reference, tmp_path: Path
) -> None:
    joined = read_in_shards(order(recommended, tmp_path, shuffled()), tmp_path, BLOCK)
    with pytest.raises(ValueError, match="begin at"):
        read_shards(joined.shards[1:])
    with pytest.raises(ValueError, match="begin at"):
        read_shards(joined.shards[::-1])


@pytest.mark.parametrize("n_cells", [1, 1024, 1025, 5000, 102_400])
@pytest.mark.parametrize("size", [1, 1024, 3000, 50_000])
def test_shards_cover_all_cells_in_whole_blocks(n_cells: int, size: int) -> None:
    ranges = shard_ranges(n_cells, size)
    assert [cell for start, stop in ranges for cell in range(start, stop)] == list(range(n_cells))
    assert all(start % BLOCK == 0 for start, _ in ranges)
    assert max(stop - start for start, stop in ranges) < max(size, BLOCK) + BLOCK


def test_chunks_are_shared_out_without_gaps(recommended: Reference, tmp_path: Path) -> None:
    wide = sp.random(3000, 60, density=0.9, format="csr", random_state=1, dtype=np.float32)
    cells = Simulated(wide, simulate({"c": 3000}).obs)
    query = CanonicalQuery.open(order(recommended, tmp_path, cells).canonical)
    owned = [list(owned_chunks(query, *cells)) for cells in shard_ranges(3000, BLOCK)]
    assert query.nnz > 2 * CHUNK
    assert [number for chunks in owned for number in chunks] == list(range(-(-query.nnz // CHUNK)))


def test_chunks_are_the_same_by_any_number_of_threads(
    recommended: Reference, tmp_path: Path
) -> None:
    query = CanonicalQuery.open(order(recommended, tmp_path, shuffled()).canonical)
    packed = []
    for threads in (1, 3):
        out = tmp_path / f"by-{threads}"
        out.mkdir()
        store_packed(OwnCounts(query, threads=threads), out)
        packed.append(contents(out))
    assert packed[0] == packed[1]
    assert len(packed[0]["data.packed"]) > 1000


def test_shards_of_another_kind_of_worker_are_read_again(
    recommended: Reference, tmp_path: Path
) -> None:
    whole = order(recommended, tmp_path, shuffled(), recipe="forward")
    run_mapping(whole, ReferenceCache(), nothing)
    joined = read_in_shards(whole, tmp_path, BLOCK)
    run_mapping(joined, ReferenceCache(), nothing)
    assert provenance_of(joined)["shards"] == 3
    facts = joined.shards[1] / "shard.json"
    facts.write_text(facts.read_text().replace('"threads": 2', '"threads": 3'))
    np.save(joined.shards[0] / "z.npy", np.zeros_like(np.load(joined.shards[0] / "z.npy")))
    (tmp_path / "again").mkdir()
    again = dataclasses.replace(joined, out=tmp_path / "again")
    run_mapping(again, ReferenceCache(), nothing)
    assert provenance_of(again)["shards"] == 0
    assert contents(again.out) == contents(whole.out)


def provenance_of(mapped: MapOrder) -> dict[str, Any]:
    return dict(json.loads((mapped.out / "provenance.json").read_text()))


def test_counts_that_are_cut_short_are_no_result(recommended: Reference, tmp_path: Path) -> None:
    joined = read_in_shards(
        order(recommended, tmp_path, shuffled(), recipe="forward"), tmp_path, BLOCK
    )
    packed = joined.shards[0] / "data.packed"
    packed.write_bytes(packed.read_bytes()[:-1])
    with pytest.raises(ValueError, match="cut short"):
        run_mapping(joined, ReferenceCache(), nothing)


def test_shards_without_all_chunks_are_no_result(recommended: Reference, tmp_path: Path) -> None:
    joined = read_in_shards(
        order(recommended, tmp_path, shuffled(), recipe="forward"), tmp_path, BLOCK
    )
    sizes = joined.shards[0] / "data.sizes.npy"
    np.save(sizes, np.load(sizes)[:-1])
    with pytest.raises(ValueError, match="not all of the query's counts"):
        run_mapping(joined, ReferenceCache(), nothing)


def test_the_sample_stays_on_the_disk(recommended: Reference, tmp_path: Path) -> None:
    joined = read_in_shards(order(recommended, tmp_path, shuffled()), tmp_path, BLOCK)
    counts = read_shards(joined.shards).counts
    assert isinstance(counts, SampledShards)
    for part in counts.parts:
        assert lies_on_disk(part.counts.data)
        assert lies_on_disk(part.counts.indices)


def lies_on_disk(values: Any) -> bool:
    """Whether the numbers are those of a mapped file, and not a copy."""
    while values is not None and not isinstance(values, np.memmap):
        values = getattr(values, "base", None)
    return values is not None


def test_orders_travel_as_json(recommended: Reference, tmp_path: Path) -> None:
    joined = read_in_shards(order(recommended, tmp_path, shuffled()), tmp_path, BLOCK)
    assert from_json(json.loads(json.dumps(as_json(joined)))) == joined
