"""Samples, conditions, controls and cell filters: judged at once by what the check has told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.database import Database
from app.design_columns import check_design
from app.problems import Problem, UnfitCellFilter, UnknownControlValue, UnknownDesignColumn
from app.storage import LocalStorage
from app.tables import Query
from models_store.manifest import Covariate

from .conftest import TestClient
from .factories import built, checked, inspection

COLUMNS = [
    {
        "name": "treatment",
        "kind": "categorical",
        "n_values": 2,
        "missing": 1,
        "values": [{"value": "ctrl", "cells": 6}, {"value": "stim", "cells": 3}],
    },
    {
        "name": "dose",
        "kind": "number",
        "n_values": 2,
        "missing": 0,
        "values": [{"value": "0", "cells": 6}, {"value": "2.5", "cells": 4}],
    },
    {"name": "depth", "kind": "number", "n_values": 900, "missing": 0},
    {"name": "sample", "kind": "categorical", "n_values": 2, "missing": 0},
]


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"sample_key": "none"}, UnknownDesignColumn, "treatment, dose, depth, sample"),
        ({"condition_key": "none"}, UnknownDesignColumn, "sample"),
        (
            {"condition_key": "treatment", "control_values": ["control"]},
            UnknownControlValue,
            "ctrl, stim",
        ),
        ({"cell_filter": [{"column": "x", "in": ["a"]}]}, UnknownDesignColumn, "sample"),
        (
            {"cell_filter": [{"column": "treatment", "in": ["a"]}]},
            UnfitCellFilter,
            "0 of the 10 cells .* ctrl, stim",
        ),
        ({"cell_filter": [{"column": "dose", "min": 3}]}, UnfitCellFilter, "0 of the 10 cells"),
        ({"cell_filter": [{"column": "dose", "missing": True}]}, UnfitCellFilter, "0 of the 10"),
        (
            {"cell_filter": [{"column": "treatment", "min": 3}]},
            UnfitCellFilter,
            "no.* numbers|none",
        ),
    ],
)
def test_what_cannot_be(options: dict[str, Any], kind: type[Problem], said: str) -> None:
    with pytest.raises(kind, match=said) as caught:
        check_design(COLUMNS, options)
    assert caught.value.errors[0]["pointer"].startswith("/obs/")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sample_key": "sample", "condition_key": "treatment", "control_values": ["ctrl", "no"]},
        {"condition_key": "dose", "control_values": ["0"]},
        {"condition_key": "depth", "control_values": ["0"]},  # its values are not listed
        {"cell_filter": [{"column": "dose", "in": [2.5, 0.0]}]},
        {"cell_filter": [{"column": "dose", "in": [0], "max": 0}]},
        {"cell_filter": [{"column": "treatment", "missing": True}]},
        {"cell_filter": [{"column": "depth", "min": 1e9}]},
        {"cell_filter": {"column": "sample", "in": ["a"]}},
    ],
)
def test_what_may_be(options: dict[str, Any]) -> None:
    check_design(COLUMNS, options)


@pytest.fixture
def query(database: Database, storage: LocalStorage) -> Query:
    plate = Covariate(key="plate", categories=("p1", "p2")).model_dump(mode="json")
    built(database, storage)
    built(database, storage, name="plated", extra_covariates=[plate])
    return checked(database, storage, found=inspection(columns=COLUMNS))


def ask(client: TestClient, query: Query, **request: Any) -> Any:
    return client.post("/v1/mappings", json={"query": query.id, "reference": "pbmc", **request})


def test_a_mapping_echoes_its_design(client: TestClient, query: Query) -> None:
    asked = {
        "sample_key": "sample",
        "condition_key": "treatment",
        "control_values": ["ctrl"],
        "cell_filter": {"column": "dose", "in": [0, 2.5]},
    }
    answer = ask(client, query, **asked)
    assert answer.status_code == 202, answer.text
    told = answer.json()["options"]
    assert {**asked, "cell_filter": [asked["cell_filter"]]} == {key: told[key] for key in asked}
    assert client.get(f"/v1/mappings/{answer.json()['id']}").json()["options"] == told


@pytest.mark.parametrize(
    ("request_", "type_", "pointer"),
    [
        ({"sample_key": "none"}, "unknown-design-column", "/obs/none"),
        ({"cell_filter": {"column": "dose", "in": ["9"]}}, "unfit-cell-filter", "/obs/dose"),
        ({"control_values": ["ctrl"]}, "malformed-request", "/"),
        ({"cell_filter": {"column": "dose", "eval": "1"}}, "malformed-request", None),
        ({"cell_filter": "dose == 0"}, "malformed-request", None),
        ({"cell_filter": []}, "malformed-request", None),
    ],
)
def test_a_design_that_does_not_fit_is_told_at_once(
    client: TestClient, query: Query, request_: dict[str, Any], type_: str, pointer: str | None
) -> None:
    answer = ask(client, query, **request_)
    assert (answer.status_code, answer.json()["type"]) == (422, type_)
    if pointer is not None:
        assert answer.json()["errors"][0]["pointer"] == pointer


def test_a_covariate_that_the_reference_needs_is_named_with_its_values(
    client: TestClient, query: Query
) -> None:
    told = ask(client, query, reference="plated").json()
    assert told["type"] == "unknown-covariate"
    assert "'plate'" in told["detail"]
    assert "p1, p2" in told["detail"]
    assert (told["errors"][0]["pointer"], told["known"]) == ("/obs/plate", ["p1", "p2"])


def upload(client: TestClient, address: str, **options: Any) -> Any:
    return client.put(address, params=options, content=b"cells")


def test_upload_and_map_takes_the_same_words(client: TestClient, query: Query) -> None:
    clause = {"column": "dose", "min": 1.0}
    options = {"condition_key": "treatment", "control_values": ["ctrl", "none"], "sample_key": "s"}
    given = {"reference": "pbmc", **options, "cell_filter": json.dumps(clause)}
    answer = upload(client, "/v1/map/", **given)
    assert answer.status_code == 202, answer.text
    told = answer.json()["options"]
    assert {key: told[key] for key in options} == options
    assert told["cell_filter"] == [clause]
    of_query = client.get(answer.json()["links"]["query"]).json()["options"]
    assert {key: of_query[key] for key in options} == options
    posted = client.post("/v1/map", files={"file": ("x.h5ad", b"cells")}, data=given)
    assert posted.status_code == 202, posted.text
    assert posted.json()["options"] == told


@pytest.mark.parametrize(
    "options",
    [
        {"cell_filter": "dose > 1"},
        {"control_values": "ctrl"},
        {"obs_keep": "age"},
        {"obs_policy": "some"},
    ],
)
def test_options_that_make_no_sense_are_refused(
    client: TestClient, query: Query, options: dict[str, str]
) -> None:
    answer = upload(client, "/v1/map/", reference="pbmc", **options)
    assert (answer.status_code, answer.json()["type"]) == (422, "malformed-request")


def test_which_table_holds_proteins_is_for_the_check(client: TestClient, query: Query) -> None:
    given = {"reference": "pbmc", "proteins_key": "adt", "protein_names_key": "tags"}
    answer = upload(client, "/v1/map/", batch_key="sample", **given)
    told = client.get(answer.json()["links"]["query"]).json()["options"]
    assert (told["proteins_key"], told["protein_names_key"]) == ("adt", "tags")


def test_what_a_reference_needs_is_kept_with_the_keys(client: TestClient, query: Query) -> None:
    clause = json.dumps([{"column": "dose", "min": 1}])
    given = {"reference": "plated", "obs_policy": "needed", "cell_filter": clause}
    answer = upload(client, "/v1/map/", batch_key="sample", **given)
    told = client.get(answer.json()["links"]["query"]).json()["options"]
    assert told["obs_policy"] == "needed"
    assert (told["batch_key"], told["obs_keep"]) == (["sample"], ["plate", "dose"])
