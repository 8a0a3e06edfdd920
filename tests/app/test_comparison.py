"""Two versions compared, and the mappings that depend on one."""

from __future__ import annotations

import math
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.comparison import compare_manifests
from app.database import Database
from app.storage import LocalStorage
from models_store.manifest import Manifest

from .factories import GENES, asked, built, checked, manifest, mapped
from .test_keys import key_for


def made(version: int, **changes: Any) -> Manifest:
    return Manifest.model_validate(manifest("pbmc", version, **changes))


LATER: dict[str, Any] = {
    "genes": {"ids": [*GENES[1:], "GNLY"]},
    "batch": {"key": "donor", "categories": ["b", "c", "d"]},
    "labels": [{"key": "cell_type", "categories": ["B", "NK"]}],
    "architecture": {"n_genes": 4, "n_latent": 20},
    "default_recipe": {"name": "forward"},
    "licence": "CC0-1.0",
    "expected_expression": [0.1, 0.2, 0.3, 0.4],
}


def test_what_was_gained_lost_and_changed() -> None:
    before = made(
        1,
        labels=[{"key": "cell_type", "categories": ["B", "T"]}, {"key": "broad", "categories": []}],
        licence="CC-BY-4.0",
        expected_expression=[0.4, 0.1, 0.2, 0.3],
    )
    found = compare_manifests(before, made(2, **LATER))
    assert (found.before, found.after) == ("pbmc@1", "pbmc@2")
    assert (found.genes.gained, found.genes.lost) == (["GNLY"], ["CD3D"])
    assert (found.labels["cell_type"].gained, found.labels["cell_type"].lost) == (["NK"], ["T"])
    assert (found.labels["broad"].n_before, found.labels["broad"].n_after) == (0, 0)
    assert (found.batches.gained, found.batches.lost) == (["c", "d"], ["a"])
    assert found.changed["architecture.n_latent"] == (10, 20)
    assert found.changed["default_recipe.name"] == ("default", "forward")
    assert found.changed["licence"] == ("CC-BY-4.0", "CC0-1.0")
    assert found.changed["batch.key"] == ("sample", "donor")
    assert "citation" not in found.changed
    # The shared genes have the same shares in both.
    assert found.expected_expression_correlation == pytest.approx(1.0)


def test_the_correlation_is_of_logs_over_shared_genes() -> None:
    ours, theirs = [0.1, 0.2, 0.3, 0.4], [0.4, 0.1, 0.2, 0.3]
    found = compare_manifests(
        made(1, expected_expression=ours), made(2, expected_expression=theirs)
    )
    x, y = ([math.log1p(1e4 * share) for share in side] for side in (ours, theirs))
    mx, my = sum(x) / 4, sum(y) / 4
    covariance = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    spread = sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y)
    assert found.expected_expression_correlation == pytest.approx(covariance / spread**0.5)
    flat = compare_manifests(made(1), made(2, expected_expression=theirs))
    assert flat.expected_expression_correlation is None
    few = made(2, genes={"ids": ["x", "y", "CD3D", "LYZ"]}, expected_expression=theirs)
    assert compare_manifests(made(1), few).expected_expression_correlation is None


def test_a_comparison_by_http(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    built(database, storage, **LATER)
    client.put("/v1/references/pbmc/aliases/next", json={"version": 2})
    here = "/v1/references/pbmc/versions/1/comparison"
    for other in ("pbmc@2", "pbmc@next", "pbmc"):
        found = client.get(here, params={"with": other}).json()
        assert (found["before"], found["after"]) == ("pbmc@1", "pbmc@2")
        assert found["genes"] == {
            "n_before": 4,
            "n_after": 4,
            "gained": ["GNLY"],
            "lost": ["CD3D"],
        }
        assert found["changed"]["architecture.n_latent"] == [10, 20]
    missing = client.get(here)
    assert (missing.status_code, missing.json()["errors"][0]["pointer"]) == (422, "?with")


def test_the_impact_of_a_version(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    built(database, storage)
    alias = "/v1/references/pbmc/aliases/stable"
    client.put(alias, json={"version": 2})
    query = checked(database, storage)
    done = mapped(database, storage, query)
    by_alias = [
        asked(database, query, reference="pbmc@stable", external_id=f"LIMS-{n}") for n in range(2)
    ]
    theirs = asked(database, checked(database, storage, owner="lab-b"))
    asked(database, query, reference="pbmc@1")
    here = "/v1/references/pbmc/versions/2/impact"
    found = client.get(here).json()
    assert (found["n_mappings"], found["n_alias_moved"], found["next"]) == (4, 0, None)
    items = {item["id"]: item for item in found["items"]}
    assert set(items) == {done.id, theirs.id, *(each.id for each in by_alias)}
    assert (items[done.id]["state"], items[theirs.id]["owner"]) == ("succeeded", "lab-b")
    assert items[by_alias[0].id]["external_id"] == "LIMS-0"
    assert items[by_alias[0].id]["alias_names"] == 2
    client.put(alias, json={"version": 1})
    moved = client.get(here, params={"alias_moved": True}).json()
    assert (moved["n_mappings"], moved["n_alias_moved"]) == (4, 2)
    assert {item["id"] for item in moved["items"]} == {each.id for each in by_alias}
    assert {item["alias_names"] for item in moved["items"]} == {1}
    client.delete(alias)
    assert client.get(here).json()["n_alias_moved"] == 2
    first = client.get(here, params={"limit": 3}).json()
    rest = client.get(here, params={"limit": 3, "cursor": first["next"]}).json()
    assert [item["id"] for item in first["items"] + rest["items"]] == list(items)
    assert client.get(here, headers=key_for(database, "read")).status_code == 403
