"""How well references explain cells: the right tissue, any depth, any order, missing genes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from models_store.gene_matching import GeneMatch
from models_store.kinds import untrained
from models_store.misfit import misfit, reconstruct
from tests.worker.engine.simulated import Reference, Simulated, build_reference, simulate
from tests.worker.engine.tissues import Atlas, build_atlas, joined, thinned, tissue
from worker.alignment import row_hashes
from worker.explained import Explained, explain
from worker.reference_cache import LoadedReference
from worker.thinning import first_by_content
from worker.thinning import thinned as thinned_rows


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    return build_atlas(tmp_path_factory.mktemp("atlas"))


def loaded(reference: Reference, **changes: object) -> LoadedReference:
    manifest = reference.manifest.model_copy(update=changes)
    return LoadedReference(manifest, reference.cvae, "0" * 64)


def match_of(reference: Reference, genes: np.ndarray | None = None) -> GeneMatch:
    names = np.array([f"GENE{i}" for i in range(200)])
    return reference.manifest.match_genes({"index": names if genes is None else names[genes]})


def explained(reference: Reference, cells: Simulated, **changes: object) -> Explained:
    return explain(
        loaded(reference, **changes), reference.folder, cells.counts, match_of(reference)
    )


def figure(found: Explained) -> float:
    assert found.explained is not None, found.why_not
    return found.explained


@pytest.mark.parametrize("name", ["lung", "pancreas"])
def test_cells_are_explained_by_their_own_tissue_alone(atlas: Atlas, name: str) -> None:
    cells = tissue(name, seed=9)
    right, wrong = atlas.lung, atlas.pancreas
    if name == "pancreas":
        right, wrong = wrong, right
    own, other = explained(right, cells), explained(wrong, cells)
    assert figure(own) > 0.8
    assert figure(other) < 0.3
    assert other.unexplained_genes[0]["share"] > 3 * other.unexplained_genes[0]["expected"]


def test_a_reference_of_one_type_does_not_take_other_cells_for_its_own(tmp_path: Path) -> None:
    """Their gain over its average profile is many times its own cells', which says nothing."""
    cells = tissue("pancreas", 500, seed=1, n_types=1)
    plain = build_reference(tmp_path, cells, max_epochs=80, architecture={"n_hidden": 32})
    assert figure(explained(plain, tissue("pancreas", seed=4, n_types=1))) > 0.7
    assert figure(explained(plain, tissue("lung", seed=4))) < 0.3


@pytest.mark.parametrize("share", [0.25, 0.1])
@pytest.mark.parametrize("name", ["lung", "pancreas"])
def test_depth_does_not_enter(atlas: Atlas, name: str, share: float) -> None:
    cells = tissue(name, seed=5, depth=1500)
    whole, part = (explained(atlas.lung, each) for each in (cells, thinned(cells, share)))
    assert part.library_size is not None
    assert whole.library_size is not None
    assert part.library_size < whole.library_size
    assert figure(part) == pytest.approx(figure(whole), abs=0.06)


def test_rows_in_another_order_give_the_same_figures(atlas: Atlas) -> None:
    cells = tissue("pancreas", seed=5)
    mixed = cells.take(np.random.default_rng(0).permutation(300))
    assert explained(atlas.lung, mixed) == explained(atlas.lung, cells)


def test_a_sample_is_chosen_by_content() -> None:
    rows = tissue("lung", 60).counts
    order = np.random.default_rng(0).permutation(60)
    first = first_by_content(row_hashes(rows), np.arange(60), 20)
    again = first_by_content(row_hashes(rows[order]), np.arange(60), 20)
    assert sorted(order[again]) == first.tolist()


def test_missing_genes_are_no_misfit(atlas: Atlas) -> None:
    genes = np.sort(np.random.default_rng(1).permutation(200)[:90])
    match = match_of(atlas.lung, genes)
    assert match.n_matched < 100
    found = {}
    for name in ("lung", "pancreas"):
        counts = tissue(name, seed=6).counts.toarray()
        lacking = np.zeros_like(counts)
        lacking[:, genes] = counts[:, genes]
        rows = sp.csr_matrix(lacking)
        found[name] = figure(explain(loaded(atlas.lung), atlas.lung.folder, rows, match))
    assert found["lung"] > 0.7
    assert found["pancreas"] < 0.35


def test_a_build_measures_its_held_out_cells(atlas: Atlas) -> None:
    own = atlas.lung.manifest.own_fit
    assert own is not None
    assert [each.library_size for each in own] == [50, 100, 200, 400]
    assert {each.cells for each in own} == {"held-out"}
    assert all(abs(each.misfit) < 0.2 for each in own)


@pytest.mark.parametrize("with_cells", [True, False])
def test_without_measured_figures_cells_are_simulated(atlas: Atlas, with_cells: bool) -> None:
    files = dict(atlas.lung.manifest.files)
    if not with_cells:
        del files["cells.parquet"]
    for name in ("lung", "pancreas"):
        cells = tissue(name, seed=9)
        measured = explained(atlas.lung, cells)
        simulated = explained(atlas.lung, cells, own_fit=None, files=files)
        assert simulated.own_cells == "simulated"
        assert figure(simulated) == pytest.approx(figure(measured), rel=0.15)


def test_what_cannot_be_compared_is_said(atlas: Atlas) -> None:
    few = explained(atlas.lung, tissue("lung", 5, seed=2))
    shallow = explained(atlas.lung, tissue("lung", 100, seed=2, depth=10))
    nothing = explained(atlas.lung, tissue("lung", 0, seed=2))
    assert few.why_not is not None
    assert "of 5 cells have 50 counts" in few.why_not
    assert shallow.why_not is not None
    assert "0 of 100 cells have 50 counts" in shallow.why_not
    assert nothing.explained is None


def test_continuous_values_are_not_compared(tmp_path: Path) -> None:
    cells = simulate({"a": 60, "b": 60})
    reference = build_reference(tmp_path, cells, architecture={"likelihood": "normal"})
    assert reference.manifest.own_fit is None
    found = explain(
        loaded(reference),
        reference.folder,
        cells.counts,
        reference.manifest.match_genes({"index": reference.manifest.genes.ids}),
    )
    assert found.explained is None
    assert "continuous" in str(found.why_not)


def test_every_configuration_gives_a_figure(reference: Reference) -> None:
    """Likelihoods, libraries, covariates: the shares that a decoder expects always sum to 1."""
    cells = simulate({"c": 120}, seed=3)
    x = cells.counts[:, : reference.manifest.architecture.n_features]
    shares = reconstruct(reference.cvae, x)
    assert shares.shape == x.shape
    assert np.allclose(shares.sum(axis=1), 1)
    match = reference.manifest.match_genes({"index": [f"GENE{i}" for i in range(60)]})
    found = explain(loaded(reference), reference.folder, cells.counts, match)
    if reference.manifest.input == "counts":
        assert 0 < figure(found) <= 1


def test_a_network_that_is_not_finite_is_told(atlas: Atlas) -> None:
    broken = untrained(atlas.lung.manifest).eval()
    for parameter in broken.parameters():
        parameter.requires_grad_(False).fill_(float("nan"))
    reference = dataclasses.replace(loaded(atlas.lung), cvae=broken)
    cells = tissue("lung", seed=2)
    found = explain(reference, atlas.lung.folder, cells.counts, match_of(atlas.lung))
    assert found.explained is None
    assert "not finite" in str(found.why_not)


def test_the_jackknife_takes_off_the_noise_of_few_cells() -> None:
    rng = np.random.default_rng(0)
    share = rng.dirichlet(np.ones(500))
    other = rng.dirichlet(np.ones(500) * 5)
    everything = np.ones(500, dtype=bool)

    def measured(n: int, expected: np.ndarray) -> float:
        x = rng.multinomial(200, share, size=n)
        return misfit(
            sp.csr_matrix(x, dtype=float), np.tile(expected, (n, 1)), everything, [500]
        ).nats

    assert abs(measured(60, share)) < 0.02
    true = float((share * np.log(share / other)).sum())
    assert measured(60, other) == pytest.approx(true, abs=0.06)


def test_how_much_was_counted_of_each_kind_is_no_misfit() -> None:
    """Genes and regions as expected within each kind, nine counts of ten in the regions."""
    rng = np.random.default_rng(0)
    genes, regions = rng.dirichlet(np.ones(40)), rng.dirichlet(np.ones(60))
    expected = np.tile(np.concatenate([genes, regions]) / 2, (80, 1))
    share = np.concatenate([genes * 0.1, regions * 0.9])
    x = sp.csr_matrix(rng.multinomial(400, share, size=80), dtype=float)
    everything, runs = np.ones(100, dtype=bool), [40, 60, 0]
    right = misfit(x, expected, everything, runs)
    assert abs(right.nats) < 0.01
    assert right.weights == pytest.approx([0.1, 0.9, 0], abs=0.02)
    expected[:, :40] = expected[:, :40][:, ::-1]
    wrong = misfit(x, expected, everything, runs)
    true = float((genes * np.log(genes / genes[::-1])).sum())
    assert wrong.by_run[0] == pytest.approx(true, rel=0.1)
    assert abs(wrong.by_run[1]) < 0.01
    alone = misfit(x[:, :40], expected[:, :40], everything[:40], [40, 0, 0])
    assert wrong.weighed(alone.weights) == pytest.approx(alone.nats, rel=0.05)
    assert wrong.weighed(np.array([0.0, 0.0, 1.0])) == wrong.nats


def test_thinning_keeps_shares_and_takes_fractions() -> None:
    rows = sp.csr_matrix(np.array([[800.0, 0, 200.5, 0.25], [50, 0, 0, 0]], dtype=np.float32))
    found = thinned_rows(rows, 100).toarray()
    assert found[0].sum() == pytest.approx(100, abs=35)
    assert found[1].tolist() == [50, 0, 0, 0]
    assert (found == np.floor(found)).all()
    assert np.array_equal(thinned_rows(rows[[1, 0]], 100).toarray(), found[[1, 0]])


def test_counts_of_any_size_are_thinned() -> None:
    """Values that are taken as they are may be as large as float32 goes."""
    counts = np.array([[1, 2, 0, 3], [5, 5, 5, 5]], dtype=np.float32) * np.float32(6e37)
    found = thinned_rows(sp.csr_matrix(counts), 1000).toarray()
    totals = found.sum(axis=1)
    assert totals == pytest.approx([1000, 1000], rel=0.15)
    assert found[0, 3] == pytest.approx(500, rel=0.2)


def test_mixtures_lie_between(atlas: Atlas) -> None:
    half = joined(tissue("lung", 150, seed=5), tissue("pancreas", 150, seed=5))
    values = [
        figure(explained(atlas.lung, each))
        for each in (tissue("pancreas", seed=5), half, tissue("lung", seed=5))
    ]
    assert values == sorted(values)
