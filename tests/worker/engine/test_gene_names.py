"""Whatever a file calls its genes, it maps as the clean copy does; simulated, and on real cells."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest

from app.problems import SpeciesMismatch, TooFewGenes
from app.references import manifest_digest
from tests.worker.engine.simulated import Reference, build_reference, nothing, simulate
from tests.worker.engine.test_mapping import order
from tests.worker.intake.conftest import check_here
from worker.building import run_build
from worker.mapping import run_mapping
from worker.orders import BuildOrder, MapOrder
from worker.reference_cache import ReferenceCache

DATA = Path(__file__).parents[4] / "shared/data"


def rename(folder: Path, index: list[str], **table: Any) -> None:
    columns = {"index": index, "columns": table.pop("columns", {}), **table}
    (folder / "genes.json").write_text(json.dumps(columns))


def test_few_genes_are_refused_and_forced(recommended: Reference, tmp_path: Path) -> None:
    ordered = order(recommended, tmp_path / "few", simulate({"c": 20}))
    rename(ordered.canonical, [f"GENE{i}" if i < 25 else f"x{i}" for i in range(60)])
    with pytest.raises(TooFewGenes, match="25 of the 60 genes"):
        run_mapping(ordered, ReferenceCache(), nothing)
    forced = order(recommended, tmp_path / "forced", simulate({"c": 20}), force=True)
    rename(forced.canonical, [f"GENE{i}" if i < 25 else f"x{i}" for i in range(60)])
    told = run_mapping(forced, ReferenceCache(), nothing)
    assert told["verdict"]["result"] == "fail"
    assert [each["code"] for each in told["verdict"]["reasons"]] == ["low-gene-coverage"]
    assert "few-genes" in {warning["code"] for warning in told["warnings"]}
    assert json.loads((forced.out / "provenance.json").read_text())["verdict"] == told["verdict"]


def test_enough_genes_have_no_verdict_and_a_warning(recommended: Reference, tmp_path: Path) -> None:
    ordered = order(recommended, tmp_path, simulate({"c": 20}))
    rename(ordered.canonical, [f"GENE{i}" if i < 45 else f"x{i}" for i in range(60)])
    told = run_mapping(ordered, ReferenceCache(), nothing)
    assert told["verdict"] is None
    (warning,) = [each for each in told["warnings"] if each["code"] == "few-genes"]
    assert "45 of the 60 genes" in warning["detail"]
    assert "GENE" in warning["detail"].split("informative")[1]


def test_another_species_is_refused(recommended: Reference, tmp_path: Path) -> None:
    ordered = order(recommended, tmp_path, simulate({"c": 20}))
    rename(ordered.canonical, [f"ENSMUSG{i:011d}" for i in range(60)])
    with pytest.raises(SpeciesMismatch, match=r"mouse.* human"):
        run_mapping(ordered, ReferenceCache(), nothing)


def test_proteins_beside_genes_move_no_latent(recommended: Reference, tmp_path: Path) -> None:
    cells = simulate({"c": 20})
    symbols = [f"GENE{i}" for i in range(cells.counts.shape[1])]
    data = anndata.AnnData(cells.counts, obs=cells.obs, var=pd.DataFrame(index=symbols))
    told = []
    for name in ("alone", "beside"):
        data.write_h5ad(tmp_path / f"{name}.h5ad")
        ordered = order(recommended, tmp_path / name, cells)
        check_here(tmp_path / f"{name}.h5ad", ordered.canonical)
        told.append((run_mapping(ordered, ReferenceCache(), nothing), ordered.out))
        proteins = np.random.default_rng(0).poisson(3, (20, 2))
        # One is called as a gene is, and meets none.
        data.obsm["protein_expression"] = pd.DataFrame(proteins, cells.obs.index, ["CD3", "GENE1"])
    (plain, first), (joined, second) = told
    assert (first / "latent.npy").read_bytes() == (second / "latent.npy").read_bytes()
    assert plain["features"] == joined["features"]
    assert joined["features"][0]["kind"] == "gene"
    names = anndata.read_h5ad(second / "query.h5ad").var_names
    assert names.tolist() == [*symbols, "CD3", "GENE1-protein"]


def test_antibodies_are_in_no_panel_and_match_nothing(
    recommended: Reference, tmp_path: Path
) -> None:
    types = ["Gene Expression"] * 50 + ["Antibody Capture"] * 10
    ordered = order(recommended, tmp_path / "m", simulate({"c": 20}))
    rename(ordered.canonical, [f"GENE{i}" for i in range(60)], feature_types=types)
    assert run_mapping(ordered, ReferenceCache(), nothing)["n_genes_matched"] == 50
    ordered = order(recommended, tmp_path / "b", simulate({"a": 40, "b": 40}))
    rename(ordered.canonical, [f"GENE{i}" for i in range(60)], feature_types=types)
    built = _built(ordered.canonical, tmp_path / "bundle", n_top_genes=None)
    assert built["genes"]["ids"] == [f"GENE{i}" for i in range(50)]


def test_a_build_keeps_its_thresholds_and_what_genes_inform(tmp_path: Path) -> None:
    cells = simulate({"a": 60, "b": 60})
    asked = {"refuse_below": 0.25, "warn_below": 0.6, "max_epochs": 60}
    built = build_reference(tmp_path / "r", cells, **asked).manifest
    assert (built.thresholds.refuse_below, built.thresholds.warn_below) == (0.25, 0.6)
    assert built.informativeness is not None
    assert sum(built.informativeness) == pytest.approx(1)
    # What differs between the two types of cells is what the decoder learns first.
    counts = cells.counts.toarray()
    shares = counts / counts.sum(1, keepdims=True)
    kinds = cells.obs["cell_type"].to_numpy()
    apart = np.sqrt(shares[kinds == "alpha"].mean(0)) - np.sqrt(shares[kinds == "beta"].mean(0))
    assert np.corrcoef(np.square(apart), built.informativeness)[0, 1] > 0.3


def _built(canonical: Path, out: Path, **options: Any) -> dict[str, Any]:
    out.mkdir()
    small = {"n_hidden": 16, "n_latent": 4}
    wanted = {"batch_key": "batch", "max_epochs": 2, "seed": 0, "architecture": small, **options}
    return run_build(BuildOrder("tiny", 1, canonical, out, wanted, {}, 1, "cpu"), nothing)


def _read(name: str) -> anndata.AnnData:
    path = DATA / name / f"{name}.h5ad"
    if not path.exists():
        pytest.skip(f"the cells {name} are not at hand (shared/data)")
    return anndata.read_h5ad(path)


class Mapped:
    """Copies of a real set, checked and mapped onto one reference by recipe `forward`."""

    def __init__(self, folder: Path, reference: anndata.AnnData, **options: Any) -> None:
        self.folder, self.n = folder, 0
        _, query = self.check(reference)
        self.manifest = _built(query.folder, folder / "bundle", **options)

    def check(self, cells: anndata.AnnData) -> Any:
        self.n += 1
        cells.write_h5ad(self.folder / f"{self.n}.h5ad")
        return check_here(self.folder / f"{self.n}.h5ad", self.folder / f"canonical-{self.n}")

    def map(self, cells: anndata.AnnData) -> tuple[dict[str, Any], np.ndarray]:
        _, query = self.check(cells)
        out = self.folder / f"out-{self.n}"
        out.mkdir()
        told = run_mapping(
            MapOrder(
                mapping_id="m",
                canonical=query.folder,
                bundle=self.folder / "bundle",
                manifest_sha256=manifest_digest(self.manifest),
                out=out,
                options={"batch_key": None, "recipe": "forward"},
                query_facts={},
                threads=2,
                device="cpu",
            ),
            ReferenceCache(),
            nothing,
        )
        return told, np.load(out / "latent.npy")

    def same(self, clean: anndata.AnnData, *copies: anndata.AnnData) -> int:
        """How many genes the clean copy has; every other has the same, and the same latents."""
        first, latents = self.map(clean)
        figures = ("n_genes_matched", "expected_expression_covered")
        for copy in copies:
            told, again = self.map(copy)
            assert [told[name] for name in figures] == [first[name] for name in figures]
            assert np.array_equal(again, latents)
        return int(first["n_genes_matched"])


def _named(
    cells: anndata.AnnData, name: Callable[[int, str], str], **columns: list[str]
) -> anndata.AnnData:
    index = [name(at, str(gene)) for at, gene in enumerate(cells.var_names)]
    var = pd.DataFrame(columns, index=pd.Index(index, dtype=object))
    return anndata.AnnData(cells.X.copy(), obs=cells.obs.copy(), var=var)


def test_prefixed_symbols_of_real_cells(tmp_path: Path) -> None:
    prefixed, reference = _read("citeseq_ctcl_500"), _read("pbmc_citeseq_10k5k")[:400].copy()
    mapped = Mapped(tmp_path, reference, n_top_genes=800)
    clean = _named(prefixed, lambda _, gene: gene.removeprefix("hg19_"))
    symbols = list(clean.var_names)
    elsewhere = _named(clean, lambda at, _: str(at), feature_name=symbols)
    found = mapped.same(clean, prefixed, elsewhere, _named(clean, lambda _, gene: gene.lower()))
    assert found > 700


def test_ensembl_ids_with_versions_of_real_cells(tmp_path: Path) -> None:
    kang = _read("kang_muscat_1556")
    ensembl, symbols = [str(each) for each in kang.var["ensembl"]], list(kang.var_names)
    mapped = Mapped(tmp_path, kang[:400].copy(), n_top_genes=600)
    assert mapped.manifest["genes"]["ensembl"] is not None
    cells = kang[400:600].copy()
    clean = _named(cells, lambda _, gene: gene)
    versioned = _named(cells, lambda at, _: f"{ensembl[at]}.{at % 17 + 1}")
    mixed = _named(cells, lambda at, gene: f"{ensembl[at]}.2" if at % 3 else gene)
    elsewhere = _named(cells, lambda at, _: f"ENSMUSG{at:011d}.1", symbol=symbols)
    assert mapped.same(clean, versioned, mixed) == 600
    for mouse in (_named(cells, lambda _, gene: gene.capitalize()), elsewhere):
        with pytest.raises(SpeciesMismatch, match=r"mouse.* human"):
            mapped.map(mouse)
