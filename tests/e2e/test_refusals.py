"""Everything that can be wrong with a request: told as a problem, with what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest

from tests.e2e.cells import cells, write
from tests.e2e.service import REFERENCE, Answer, Serving, cellgraft

pytestmark = pytest.mark.slow
UNKNOWN = "0" * 32


@pytest.fixture(scope="module")
def query(service: Serving, query_file: Path) -> str:
    return str(service.checked(query_file)["id"])


def is_problem(found: dict[str, Any], kind: str, status: int) -> bool:
    said = found["title"], found["detail"], found["fix"]
    return (found["type"], found["status"]) == (kind, status) and all(len(s) > 8 for s in said)


def refuses(answer: Answer, kind: str, status: int) -> bool:
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.status == status, answer.body
    return is_problem(answer.json, kind, status)


@pytest.mark.parametrize(
    ("request_", "kind", "status"),
    [
        ({"batch_key": "donor"}, "unknown-batch-column", 422),
        ({"labels_key": "none"}, "unknown-labels-column", 422),
        ({"reference": "nowhere"}, "unknown-reference", 404),
        ({"version": 9}, "unknown-reference", 404),
        ({"query": UNKNOWN}, "unknown-query", 404),
        ({"recipe": "magic"}, "malformed-request", 422),
        ({"batchkey": "sample"}, "malformed-request", 422),
    ],
)
def test_a_mapping_that_cannot_be(
    service: Serving, query: str, request_: dict[str, Any], kind: str, status: int
) -> None:
    assert refuses(service.ask(**{"query": query, **request_}), kind, status)


def test_the_columns_that_there_are_are_named(service: Serving, query: str) -> None:
    found = service.ask(query, batch_key="donor").json
    assert found["available"] == ["sample", "cell_type", "reads"]
    assert found["errors"][0]["pointer"] == "/obs/donor"


def by_length(adata: anndata.AnnData) -> anndata.AnnData:
    """As TPM are: what was divided by the lengths of genes is no count any more."""
    lengths = np.random.default_rng(0).uniform(0.2, 5, adata.n_vars)
    adata.X = adata.X.multiply(1 / lengths).tocsr().log1p()
    return adata


def strange(adata: anndata.AnnData) -> anndata.AnnData:
    adata.var_names = [f"Other{i}" for i in range(adata.n_vars)]
    return adata


def test_counts_that_are_none(service: Serving, tmp_path: Path) -> None:
    file = write(tmp_path / "logs.h5ad", by_length(cells(30, ["S1"], seed=6)))
    found = service.checked(file)
    assert found["state"] == "rejected"
    assert is_problem(found["problem"], "not-counts", 422)
    assert refuses(service.ask(found["id"]), "query-rejected", 409)


def test_a_report_alone(service: Serving, query_file: Path, tmp_path: Path) -> None:
    bad = write(tmp_path / "logs.h5ad", by_length(cells(30, ["S1"], seed=6)))
    service.checked(query_file)  # one that is kept
    before = service.get("/v1/queries?limit=200")["items"]
    kept = set(service.data_dir.glob("*/queries/*"))
    assert kept
    good, refused = (
        service.curl("/v1/queries:inspect", "-T", str(file)) for file in (query_file, bad)
    )
    assert (good.status, good.json["acceptable"], good.json["problem"]) == (200, True, None)
    assert good.json["gene_coverage"][0]["reference"] == REFERENCE
    assert (refused.status, refused.json["acceptable"]) == (200, False)
    assert is_problem(refused.json["problem"], "not-counts", 422)
    assert [each["severity"] for each in refused.json["inspection"]["problems"]] == ["error"]
    assert service.get("/v1/queries?limit=200")["items"] == before
    assert set(service.data_dir.glob("*/queries/*")) == kept


def test_the_command_that_inspects(service: Serving, query_file: Path, tmp_path: Path) -> None:
    bad = write(tmp_path / "logs.h5ad", by_length(cells(30, ["S1"], seed=6)))
    there = ("--server", service.url)
    assert "acceptable" in cellgraft(tmp_path, "inspect", str(query_file), *there)
    told = cellgraft(tmp_path, "inspect", str(bad), *there, code=1)
    assert "error log-normalised at /X" in told


def test_genes_of_another_species(service: Serving, tmp_path: Path) -> None:
    file = write(tmp_path / "strange.h5ad", strange(cells(30, ["S1"], seed=6)))
    found = service.checked(file)
    assert found["gene_coverage"][0]["advice"] == "refused"
    assert refuses(service.ask(found["id"]), "too-few-genes", 422)
    answer = service.curl(f"/v1/map/?reference={REFERENCE}", "-T", str(file))
    mapping = service.finished(answer.json["id"])
    assert mapping["state"] == "failed"
    assert is_problem(mapping["problem"], "too-few-genes", 422)


@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_a_truncated_file(service: Serving, query_file: Path, tmp_path: Path, kept: float) -> None:
    content = query_file.read_bytes()
    short = tmp_path / "short.h5ad"
    short.write_bytes(content[: int(len(content) * kept)])
    answer = service.curl(f"/v1/map/?reference={REFERENCE}", "-T", str(short))
    mapping = service.finished(answer.json["id"])
    assert mapping["state"] == "failed"
    assert is_problem(mapping["problem"], "unreadable-file", 422)
    found = service.get(mapping["links"]["query"])
    assert (found["state"], found["problem"]) == ("rejected", mapping["problem"])


def test_bodies_that_are_refused_at_the_door(service: Serving, tmp_path: Path) -> None:
    empty, big = tmp_path / "empty.h5ad", tmp_path / "big.h5ad"
    empty.write_bytes(b"")
    big.write_bytes(bytes(25_000_000))
    before = len(service.get("/v1/queries?limit=200")["items"])
    assert refuses(service.curl("/v1/queries/", "-T", str(empty)), "empty-file", 422)
    assert refuses(service.curl("/v1/queries", "-F", f"file=@{empty}"), "empty-file", 422)
    assert refuses(service.curl("/v1/queries/", "-T", str(big)), "body-too-large", 413)
    digest = ["-H", f"Repr-Digest: sha-256=:{'A' * 43}=:"]
    answer = service.curl("/v1/queries/", *digest, "--data-binary", "@-", "-X", "PUT", stdin=b"xy")
    assert refuses(answer, "digest-mismatch", 422)
    answer = service.curl("/v1/map/?reference=nowhere", "-T", str(big))
    assert refuses(answer, "unknown-reference", 404)
    assert len(service.get("/v1/queries?limit=200")["items"]) == before
    assert list((service.data_dir / "staging").iterdir()) == []


def test_addresses_and_methods_that_there_are_not(service: Serving) -> None:
    assert refuses(service.curl("/v1/nothing"), "not-found", 404)
    assert refuses(service.curl("/v1/mappings", "-X", "PATCH"), "method-not-allowed", 405)
    assert refuses(service.curl(f"/v1/mappings/{UNKNOWN}"), "unknown-mapping", 404)
    assert refuses(service.curl("/v1/queries?limit=0"), "malformed-request", 422)
    assert refuses(service.curl("/v1/queries?cursor=x"), "malformed-request", 422)
