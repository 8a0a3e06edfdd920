"""Coverage by genes and by expression: told for every reference, refused, warned about, forced."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.coverage import Coverage, GeneBook, cover
from app.database import Database
from app.gene_admission import check_genes, forced_verdict
from app.problems import SpeciesMismatch, TooFewGenes
from app.storage import Storage
from app.tables import ReferenceVersion
from models_store.gene_columns import QueryGenes
from models_store.manifest import Manifest, Thresholds

from .factories import GENES, built, checked, manifest

MOUSE = [f"ENSMUSG{at:011d}.1" for at in range(4)]
HUMAN = [f"ENSG{at:011d}" for at in range(4)]


def coverage(names: list[str], /, **changes: Any) -> Coverage:
    return cover(QueryGenes.of({"index": names}), Manifest.model_validate(manifest(**changes)))


def advice(genes: list[str], shares: list[float]) -> str:
    return coverage(genes, expected_expression=shares).advice


def test_the_lower_of_the_two_figures_is_judged() -> None:
    assert advice(GENES, [0.25] * 4) == "good"
    assert advice(GENES[:3], [0.3, 0.3, 0.3, 0.1]) == "low"  # 75 % of the genes
    assert advice(GENES[:3], [0.2, 0.2, 0.2, 0.4]) == "low"
    assert advice(GENES[:3], [0.1, 0.1, 0.1, 0.7]) == "refused"  # 30 % of the expression
    assert advice(GENES[:1], [0.97, 0.01, 0.01, 0.01]) == "refused"  # 25 % of the genes


def test_a_reference_has_thresholds_of_its_own() -> None:
    assert (Thresholds().refuse_below, Thresholds().warn_below) == (0.5, 0.8)
    assert Thresholds.given(None, 0.9) == Thresholds(warn_below=0.9)
    lenient = Thresholds.given(0.2, 0.25).model_dump()
    assert coverage(GENES[:1], thresholds=lenient).advice == "good"


def test_missing_genes_are_told_by_what_they_inform() -> None:
    shares = [0.4, 0.3, 0.2, 0.1]
    told = coverage(GENES[:1], expected_expression=shares).missing_genes
    assert [gene["gene"] for gene in told] == GENES[1:]
    assert told[0]["informativeness"] is None
    told = coverage(
        GENES[:1], expected_expression=shares, informativeness=[0.1, 0.1, 0.2, 0.6]
    ).missing_genes
    assert [gene["gene"] for gene in told] == [GENES[3], GENES[2], GENES[1]]
    assert told[0] == {
        "gene": GENES[3],
        "id": GENES[3],
        "informativeness": 0.6,
        "expected_expression": 0.1,
    }


REGIONS, PROTEINS = ["chr1:1-9", "chr1:20-30"], ["CD3", "CD4"]
TYPES = {"gene": "Gene Expression", "region": "Peaks", "protein": "Antibody Capture"}


def mixed_coverage(
    kind: str, panel: dict[str, list[str]], query: dict[str, list[str]]
) -> tuple[Coverage, Manifest]:
    """Of a query's features by a panel, both by kind; every feature has the same share."""
    ids = [name for names in panel.values() for name in names]
    runs = [{"kind": each, "count": len(names)} for each, names in panel.items()]
    reference = Manifest.model_validate(
        manifest(
            kind=kind,
            architecture={"n_genes": 0, **{f"n_{k}s": len(v) for k, v in panel.items()}},
            genes={"ids": ids, "modalities": runs},
            expected_expression=[1 / len(ids)] * len(ids),
        )
    )
    names = [name for names in query.values() for name in names]
    types = [TYPES[each] for each, names in query.items() for _ in names]
    return cover(QueryGenes.of({"index": names}, types), reference), reference


def test_proteins_refuse_nothing() -> None:
    found, reference = mixed_coverage(
        "totalvi", {"gene": GENES, "protein": PROTEINS}, {"gene": GENES}
    )
    assert (found.advice, found.kind, found.n_panel) == ("good", "gene", 4)
    assert [(each["kind"], each["n_matched"]) for each in found.kinds] == [
        ("gene", 4),
        ("protein", 0),
    ]
    check_genes(found, reference, force=False)
    without, _ = mixed_coverage(
        "totalvi", {"gene": GENES, "protein": PROTEINS}, {"protein": PROTEINS}
    )
    assert (without.advice, without.n_matched) == ("refused", 0)


@pytest.mark.parametrize(("n_regions", "advice"), [(2, "good"), (1, "low"), (0, "refused")])
def test_regions_are_what_a_reference_of_regions_asks_for(n_regions: int, advice: str) -> None:
    panel, query = {"region": REGIONS}, {"gene": GENES, "region": REGIONS[:n_regions]}
    found, reference = mixed_coverage("peakvi", panel, query)
    assert (found.advice, found.kind, found.n_matched) == (advice, "region", n_regions)
    if advice == "refused":
        with pytest.raises(TooFewGenes, match="0 of the 2 regions"):
            check_genes(found, reference, force=False)


def test_one_of_genes_and_regions_is_enough() -> None:
    panel = {"gene": GENES, "region": REGIONS, "protein": PROTEINS}
    atac, _ = mixed_coverage("multivi", panel, {"region": REGIONS})
    assert (atac.advice, atac.kind) == ("good", "region")
    rna, _ = mixed_coverage("multivi", panel, {"gene": GENES, "region": REGIONS[:1]})
    assert (rna.advice, rna.kind, rna.missing_genes) == ("good", "gene", ())
    few, _ = mixed_coverage("multivi", panel, {"region": REGIONS[:1], "gene": GENES[:1]})
    assert (few.advice, few.kind) == ("low", "region")
    assert [each["gene"] for each in few.missing_genes] == REGIONS[1:]


def test_the_refusal_has_the_figures_and_force_passes_it_by() -> None:
    one, whole = coverage(GENES[:1]), Manifest.model_validate(manifest())
    with pytest.raises(
        TooFewGenes, match=r"1 of the 4 genes \(25.0%\) and 25.0% of the"
    ) as refused:
        check_genes(one, whole, force=False)
    told = refused.value.as_dict()
    assert (told["n_matched"], told["refuse_below"]) == (1, 0.5)
    assert [gene["gene"] for gene in told["missing_genes"]] == GENES[1:]
    assert GENES[1] in told["detail"]
    check_genes(one, whole, force=True)
    verdict = forced_verdict(one)
    assert verdict is not None
    assert verdict["result"] == "fail"
    assert [reason["code"] for reason in verdict["reasons"]] == ["low-gene-coverage"]
    assert "1 of the 4" in verdict["reasons"][0]["detail"]
    assert forced_verdict(coverage(GENES)) is None
    with pytest.raises(TooFewGenes):
        check_genes(coverage(["nothing"]), whole, force=True)


def test_another_species_is_named() -> None:
    human = {"genes": {"ids": GENES, "ensembl": HUMAN}}
    found = coverage(MOUSE, **human)
    assert (found.advice, found.n_matched) == ("refused", 0)
    with pytest.raises(SpeciesMismatch, match=r"like mouse, those of the reference like human"):
        check_genes(found, Manifest.model_validate(manifest(**human)), force=True)


def test_gene_coverage_and_force_by_http(
    client: TestClient, database: Database, storage: Storage
) -> None:
    built(database, storage)
    built(database, storage, name="human", genes={"ids": GENES, "ensembl": HUMAN})
    few = checked(database, storage, genes=[GENES[0], *MOUSE])
    told = client.get(f"/v1/queries/{few.id}").json()["gene_coverage"]
    by_name = {each["reference"]: each for each in told}
    plain, human = by_name["pbmc"], by_name["human"]
    assert (plain["advice"], plain["n_matched"], plain["species_differ"]) == ("refused", 1, False)
    assert (plain["refuse_below"], plain["warn_below"]) == (0.5, 0.8)
    assert plain["matched_as"] == {"exact": 1}
    assert plain["columns_tried"][0]["query_column"] == "index"
    assert len(plain["missing_genes"]) == 3
    assert (human["species_differ"], human["query_species"]) == (True, ["mouse"])
    assert human["reference_species"] == ["human"]

    def submit(**body: Any) -> tuple[int, dict[str, Any]]:
        answer = client.post("/v1/mappings", json={"query": few.id, **body})
        return answer.status_code, answer.json()

    status, problem = submit(reference="pbmc")
    assert (status, problem["type"]) == (422, "too-few-genes")
    status, problem = submit(reference="human")
    assert (status, problem["type"]) == (422, "species-mismatch")
    assert (problem["query_species"], problem["reference_species"]) == (["mouse"], ["human"])
    for name in ("pbmc", "human"):
        status, mapping = submit(reference=name, force=True)
        assert (status, mapping["options"]["force"]) == (202, True)


def test_a_long_list_of_genes_is_read_once(storage: Storage, database: Database) -> None:
    query = checked(database, storage, genes=[f"hg19_{name}" for name in GENES])
    book = GeneBook(storage)
    assert book.genes(query) is book.genes(query)
    with database.reading() as session:
        version = session.get_one(ReferenceVersion, built(database, storage).id)
        found = book.coverage(query, version)
    assert found.matched_as == {"plain": len(GENES)}
    assert json.dumps(found.columns_tried)
