"""What a reference cannot decode is said at once, before a file travels or a mapping waits."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.database import Database
from app.storage import LocalStorage
from app.wanted_outputs import outputs_of, wanted_outputs
from models_store.kinds import NETWORKS
from models_store.manifest import Manifest
from models_store.outputs import OUTPUTS_OF

from .factories import built, checked, manifest, uploaded

EXPRESSION = "normalised_expression"
WRONG = [
    ([{"output": "accessibility", "features": ["x"]}], "output", "it gives normalised_expression"),
    ([{"output": EXPRESSION}], "features", "needs the names of genes"),
    ([{"output": EXPRESSION, "features": ["CD19"]}], "features", "no gene named CD19"),
    ([{"output": EXPRESSION, "features": ["LYZ"], "batch": "z"}], "batch", "it has a, b"),
]


@pytest.mark.parametrize(("outputs", "field", "said"), WRONG)
def test_by_every_way_in(
    client: TestClient,
    database: Database,
    storage: LocalStorage,
    outputs: list[dict[str, Any]],
    field: str,
    said: str,
) -> None:
    built(database, storage)
    body = {"reference": "pbmc", "outputs": outputs}
    ready, checking = checked(database, storage), uploaded(database, storage)
    known = len(client.get("/v1/queries").json()["items"])
    answers = [
        client.post("/v1/mappings", json={"query": query.id, **body}) for query in (ready, checking)
    ]
    asked = {"reference": "pbmc", "outputs": json.dumps(outputs)}
    answers.append(client.put("/v1/map", params=asked, content=b"cells"))
    for answer in answers:
        assert (answer.status_code, answer.json()["type"]) == (422, "unknown-output")
        assert said in answer.json()["detail"]
        assert answer.json()["errors"][0]["pointer"] == f"/outputs/0/{field}"
    assert len(client.get("/v1/queries").json()["items"]) == known, "no file was kept"


def test_a_reference_says_what_it_gives(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    assert client.get("/v1/references/pbmc").json()["description"]["outputs"] == [EXPRESSION]


def test_networks_decode_what_is_said_of_their_kinds() -> None:
    assert {kind: network.outputs for kind, network in NETWORKS.items()} == dict(OUTPUTS_OF)


def multivi() -> Manifest:
    """One gene and two regions; no proteins."""
    modalities = [{"kind": "gene", "count": 2}, {"kind": "region", "count": 2}]
    genes = {
        "ids": ["ENSG1", "ENSG2", "chr1:1-9", "chr1:20-30"],
        "symbols": ["CD4", "LYZ", "", ""],
        "modalities": modalities,
    }
    architecture = {"n_genes": 2, "n_regions": 2}
    return Manifest.model_validate(manifest(kind="multivi", genes=genes, architecture=architecture))


def test_without_proteins_nothing_of_them_is_given() -> None:
    assert outputs_of(multivi()) == (EXPRESSION, "accessibility")


def test_features_may_be_named_by_id_or_symbol() -> None:
    asked = [
        {"output": EXPRESSION, "features": ["LYZ", "ENSG1"]},
        {"output": "accessibility", "features": ["chr1:20-30"]},
    ]
    genes, regions = wanted_outputs({"outputs": asked}, multivi())
    assert (genes.features, genes.columns) == (("LYZ", "ENSG1"), (1, 0))
    assert regions.columns == (1,)
