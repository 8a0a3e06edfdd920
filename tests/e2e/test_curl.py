"""The user's story with curl: a query goes in, its coordinates come out, and it goes again."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest

from tests.e2e.cells import cells, write
from tests.e2e.service import REFERENCE, Serving, cellgraft

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def query(service: Serving, query_file: Path) -> dict[str, Any]:
    found: dict[str, Any] = service.checked(query_file, "?tag=plate-7&external_id=LIMS-1")
    return found


@pytest.fixture(scope="module")
def mapping(service: Serving, query: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = service.map(query["id"], batch_key="sample", tags=["plate-7"])
    assert found["state"] == "succeeded", found["problem"]
    return found


def test_what_an_upload_tells(query: dict[str, Any], query_file: Path) -> None:
    assert query["state"] == "ready"
    assert (query["filename"], query["external_id"]) == ("query.h5ad", "LIMS-1")
    assert query["sha256"] == hashlib.sha256(query_file.read_bytes()).hexdigest()
    inspection = query["inspection"]
    assert (inspection["n_cells"], inspection["n_genes"]) == (400, 200)
    columns = {each["name"]: each for each in inspection["columns"]}
    assert columns["sample"]["values"] == [
        {"value": "S1", "cells": 200},
        {"value": "S2", "cells": 200},
    ]
    coverage = query["gene_coverage"][0]
    assert (coverage["reference"], coverage["n_matched"]) == (REFERENCE, 200)
    assert coverage["advice"] == "good"


def test_a_form_is_as_good(service: Serving, query_file: Path) -> None:
    fields = ["-F", f"file=@{query_file}", "-F", "tag=a", "-F", "external_id=LIMS-2"]
    answer = service.curl("/v1/queries", *fields)
    assert (answer.status, answer.json["external_id"], answer.json["tags"]) == (
        201,
        "LIMS-2",
        ["a"],
    )
    assert answer.headers["location"] == f"/v1/queries/{answer.json['id']}"
    assert service.curl(f"/v1/queries/{answer.json['id']}?wait=30").json["state"] == "ready"
    assert service.curl(f"/v1/queries/{answer.json['id']}", "-X", "DELETE").status == 204


def test_every_format_tells_the_same_cells(
    service: Serving, mapping: dict[str, Any], query_file: Path
) -> None:
    name = mapping["id"]
    latent = np.load(io.BytesIO(service.result(name, "latent.npy")))
    parquet = pd.read_parquet(io.BytesIO(service.result(name, "latent.parquet")))
    csv = pd.read_csv(io.BytesIO(service.result(name, "latent.csv")), index_col=0)
    uploaded = anndata.read_h5ad(query_file)
    annotated = anndata.read_h5ad(io.BytesIO(service.result(name, "query.h5ad")))
    assert latent.shape == (400, 4)
    assert list(parquet.columns) == [f"latent_{i}" for i in range(4)]
    assert (parquet.to_numpy() == latent).all()
    assert np.allclose(csv.to_numpy(), latent, rtol=1e-6)
    assert (annotated.obsm["X_latent"] == latent).all()
    for index in (parquet.index, csv.index, annotated.obs_names):
        assert list(index) == list(uploaded.obs_names)
    pd.testing.assert_frame_equal(annotated.obs[uploaded.obs.columns], uploaded.obs)
    assert (annotated.X != uploaded.X).nnz == 0


def test_results_are_what_their_list_says(service: Serving, mapping: dict[str, Any]) -> None:
    listed = service.get(f"/v1/mappings/{mapping['id']}/results")["items"]
    assert listed == mapping["results"]
    for each in listed:
        answer = service.curl(each["links"]["self"])
        assert len(answer.body) == each["bytes"]
        assert answer.headers["content-type"].partition(";")[0] == each["media_type"]
        assert hashlib.sha256(answer.body).hexdigest() == each["sha256"]


def test_ranges_and_etags(service: Serving, mapping: dict[str, Any]) -> None:
    path = f"/v1/mappings/{mapping['id']}/results/latent.npy"
    whole = service.curl(path)
    part = service.curl(path, "-r", "100-199")
    assert (part.status, part.body) == (206, whole.body[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(whole.body)}"
    assert service.curl(path, "-r", "-50").body == whole.body[-50:]
    outside = service.curl(path, "-r", "999999-")
    assert (outside.status, outside.json["type"]) == (416, "range-not-satisfiable")
    known = service.curl(path, "-H", f"If-None-Match: {whole.headers['etag']}")
    assert (known.status, known.body) == (304, b"")


@pytest.mark.parametrize(
    ("accept", "name"),
    [("text/csv", "latent.csv"), ("application/x-npy", "latent.npy"), ("*/*", "latent.parquet")],
)
def test_the_latent_comes_as_wanted(
    service: Serving, mapping: dict[str, Any], accept: str, name: str
) -> None:
    answer = service.curl(f"/v1/mappings/{mapping['id']}/results/latent", "-H", f"Accept: {accept}")
    assert (answer.status, answer.headers["vary"]) == (200, "Accept")
    assert answer.body == service.result(mapping["id"], name)
    assert answer.headers["content-location"].endswith(name)


def test_provenance(service: Serving, mapping: dict[str, Any], query: dict[str, Any]) -> None:
    told = json.loads(service.result(mapping["id"], "provenance.json"))
    assert {"cellgraft", "torch", "numpy", "python"} <= told["software"].keys()
    assert told["query"]["sha256"] == query["sha256"]
    assert len(told["reference"]["manifest_sha256"]) == 64
    assert all(len(digest) == 64 for digest in told["reference"]["files"].values())
    assert (told["recipe"]["name"], told["recipe"]["penalty"]) == ("default", 0.1)
    assert {"loading", "reading", "fitting", "encoding"} <= told["seconds"].keys()
    surgery = told["surgery"]
    batches = surgery["batches"]
    assert [batch["name"] for batch in batches] == ["S1", "S2"]
    assert surgery["n_trainable_weights"] == sum(each["n_trainable_weights"] for each in batches)
    for batch in batches:
        assert batch["elbo_after"] >= batch["elbo_before"]
        assert batch["stop_reason"].startswith("converged")
        restraint = batch["restraint"]
        assert restraint["mixing"] >= restraint["mixing_forward"] - 1e-4
        gone = restraint["share"] * batch["trusted"]
        assert (batch["shrinkage"] > 0) == (gone > 0)
        assert batch["movement"]["max"] >= batch["movement"]["mean"] >= 0
        assert (batch["movement"]["max"] > 0) == (gone > 0)
        assert isinstance(batch["seed"], int)
    assert mapping["summary"]["batches"] == batches


def test_the_recipes(service: Serving, query: dict[str, Any]) -> None:
    forward = service.map(query["id"], batch_key="sample", recipe="forward")
    assert (forward["state"], forward["recipe"]) == ("succeeded", "forward")
    told = json.loads(service.result(forward["id"], "provenance.json"))
    assert told["recipe"]["name"] == "forward"
    assert told["surgery"]["movement"]["max"] == 0
    found = service.map(query["id"], recipe="scvi-tools")
    assert (found["state"], found["recipe"]) == ("succeeded", "scvi-tools")
    file = service.result(forward["id"], "latent.npy")
    assert file != service.result(found["id"], "latent.npy")
    told = json.loads(service.result(found["id"], "provenance.json"))
    assert told["surgery"]["batches"][0]["epochs"] == 400
    assert told["surgery"]["batches"][0]["stop_reason"] == "the recipe's number of epochs"


def test_decoded_values_are_asked_for(service: Serving, query: dict[str, Any]) -> None:
    named = service.curl(f"/v1/references/{REFERENCE}/versions/1/genes").json["ids"][:3]
    asked = [{"output": "normalised_expression", "features": named}]
    found = service.map(query["id"], batch_key="sample", recipe="forward", outputs=asked)
    assert found["state"] == "succeeded", found["problem"]
    values = pd.read_parquet(
        io.BytesIO(service.result(found["id"], "normalised_expression.parquet"))
    )
    assert values.shape == (400, 3)
    assert list(values.columns) == named
    assert values.to_numpy().min() > 0
    unknown = service.ask(
        query["id"], outputs=[{"output": "normalised_expression", "features": ["no-such-gene"]}]
    )
    assert (unknown.status, unknown.json["type"]) == (422, "unknown-output")
    assert unknown.json["errors"][0]["pointer"] == "/outputs/0/features"
    refused = service.ask(query["id"], outputs=[{"output": "expression"}])
    assert (refused.status, refused.json["type"]) == (422, "malformed-request")


def test_events_are_streamed_to_the_end(service: Serving, tmp_path: Path) -> None:
    # Enough cells that a busy machine, too, looks at the fit more than once.
    long = service.checked(write(tmp_path / "long.h5ad", cells(1500, ["S1"], seed=6)))
    asked = service.ask(long["id"], recipe="scvi-tools").json["id"]
    stream = service.curl(f"/v1/mappings/{asked}/events", "-N")
    assert stream.headers["content-type"].startswith("text/event-stream")
    blocks = [block for block in stream.body.decode().split("\n\n") if "data: " in block]
    told = [json.loads(block.partition("data: ")[2]) for block in blocks]
    assert told[-1]["state"] == "succeeded"
    assert "fitting" in {each["stage"] for each in told}
    running = [each["progress"] for each in told if each["state"] == "running"]
    assert running == sorted(running)
    assert len(set(running)) > 2


def test_cancel_takes_effect_at_once(service: Serving, tmp_path: Path) -> None:
    long = service.checked(write(tmp_path / "long.h5ad", cells(3000, ["S1"], seed=5)))
    asked = service.ask(long["id"], recipe="scvi-tools").json["id"]
    deadline = time.monotonic() + 30
    while service.get(f"/v1/mappings/{asked}")["stage"] != "fitting":
        assert time.monotonic() < deadline
    refused = service.curl(f"/v1/mappings/{asked}/results/latent.npy")
    assert (refused.status, refused.json["type"]) == (409, "mapping-not-finished")
    began = time.monotonic()
    assert service.curl(f"/v1/mappings/{asked}/cancel", "-X", "POST").json["cancel_requested"]
    assert service.get(f"/v1/mappings/{asked}?wait=20")["state"] == "cancelled"
    assert time.monotonic() - began < 3  # a second on a quiet machine
    assert service.curl(f"/v1/mappings/{asked}/cancel", "-X", "POST").status == 200
    refused = service.curl(f"/v1/queries/{long['id']}", "-X", "DELETE")
    assert (refused.status, refused.json["type"]) == (409, "query-has-mappings")
    assert service.curl(f"/v1/queries/{long['id']}?cascade=true", "-X", "DELETE").status == 204
    for gone in (f"/v1/mappings/{asked}", f"/v1/queries/{long['id']}"):
        assert service.curl(gone).status == 404
    assert not (service.data_dir / "store" / "queries" / long["id"]).exists()


def test_upload_and_map_in_one_call(service: Serving, query_file: Path) -> None:
    answer = service.curl(
        f"/v1/map/?reference={REFERENCE}&batch_key=sample&tag=x", "-T", str(query_file)
    )
    assert answer.status == 202, answer.body
    assert answer.headers["location"] == answer.json["links"]["self"]
    finished = service.finished(answer.json["id"])
    assert (finished["state"], finished["tags"]) == ("succeeded", ["x"])


def test_an_idempotency_key_asks_once(service: Serving, query: dict[str, Any]) -> None:
    first = service.ask(query["id"], "Idempotency-Key: once", recipe="forward")
    again = service.ask(query["id"], "Idempotency-Key: once", recipe="forward")
    assert (first.status, again.status, again.json["id"]) == (202, 202, first.json["id"])
    assert again.headers["idempotent-replayed"] == "true"
    other = service.ask(query["id"], "Idempotency-Key: once", recipe="default")
    assert (other.status, other.json["type"]) == (422, "idempotency-key-reused")
    assert service.finished(first.json["id"])["state"] == "succeeded"


def test_lists_are_narrowed(service: Serving, query: dict[str, Any], mapping: Any) -> None:
    assert [q["id"] for q in service.get("/v1/queries?tag=plate-7")["items"]] == [query["id"]]
    assert service.get("/v1/queries?external_id=LIMS-1&tag=other")["items"] == []
    mine = service.get(f"/v1/mappings?query={query['id']}&tag=plate-7")["items"]
    assert [m["id"] for m in mine] == [mapping["id"]]


def test_the_same_latent_through_the_client(
    service: Serving, query_file: Path, mapping: dict[str, Any], tmp_path: Path
) -> None:
    options = ["--reference", REFERENCE, "--batch-key", "sample", "--out", str(tmp_path / "out")]
    cellgraft(service.data_dir, "map", str(query_file), "--server", service.url, *options)
    latent = (tmp_path / "out" / "latent.npy").read_bytes()
    assert latent == service.result(mapping["id"], "latent.npy")


def test_the_reference_as_its_user_sees_it(service: Serving) -> None:
    told = service.get(f"/v1/references/{REFERENCE}")
    assert (told["state"], told["version"]) == ("ready", 1)
    body = subprocess.run(
        ["curl", "-sf", f"{service.url}/v1/references/{REFERENCE}/cells.parquet"],
        capture_output=True,
        check=True,
    ).stdout
    table = pd.read_parquet(io.BytesIO(body))
    assert len(table) == 400
    assert {"latent_0", "batch", "cell_type"} <= set(table.columns)
