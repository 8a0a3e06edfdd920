"""References that only some may see: for everybody else they answer as what does not exist."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.api import create_app
from app.database import Database
from app.service import Service
from app.storage import LocalStorage

from .factories import asked, built, checked
from .test_keys import key_for

SHUT, NONE, OPEN, BARE = "shut0", "none0", "open0", "bare0"
"""Restricted to lab-a, not there, seen by all, seen by all and without cells."""


@dataclass
class Place:
    client: TestClient
    keys: dict[str, dict[str, str]]
    query: dict[str, str]
    """A query that is ready, of each owner."""

    def answer(self, who: str, method: str, address: str, **options: Any) -> tuple[Any, ...]:
        """What can be seen of an answer, with the names of references made one."""
        given = self.client.request(method, address, headers=self.keys[who], **options)
        headers = {name: value for name, value in given.headers.items() if name != "x-request-id"}
        same = re.compile(f"{SHUT}|{NONE}|{BARE}")
        return given.status_code, same.sub("NAME", given.text), headers


@pytest.fixture
def place(client: TestClient, database: Database, storage: LocalStorage) -> Place:
    for name in (SHUT, OPEN):
        built(database, storage, name=name)
    built(database, storage, name=BARE, files={})
    owners = {"listed": "lab-a", "other": "lab-b", "admin": "lab-c"}
    query = {who: checked(database, storage, owner=owner).id for who, owner in owners.items()}
    client.put(f"/v1/references/{SHUT}/aliases/stable", json={"version": 1})
    restricted = client.put(f"/v1/references/{SHUT}/visibility", json={"owners": ["lab-a"]})
    assert restricted.json()["owners"] == ["lab-a"]
    keys = {
        who: key_for(database, *(("admin",) if who == "admin" else ("read", "submit")), owner=owner)
        for who, owner in owners.items()
    }
    return Place(client, keys, query)


def requests(name: str, query: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every way to come to a reference by its name."""
    here = f"/v1/references/{name}"
    for path in ("", "/genes", "/cells.parquet"):
        for place in (f"{here}{path}", f"{here}/versions/1{path}"):
            yield "GET", place, {}
            yield "HEAD", place, {}
    comparison = "/v1/references/{}/versions/1/comparison"
    yield "GET", comparison.format(name), {"params": {"with": OPEN}}
    for reference in (name, f"{name}@1", f"{name}@stable"):
        yield "GET", comparison.format(OPEN), {"params": {"with": reference}}
    for reference, version in itertools.product((name, f"{name}@1", f"{name}@stable"), (None, 1)):
        if reference.endswith("stable") and version:
            continue
        body = {"query": query, "reference": reference, "version": version}
        yield "POST", "/v1/mappings", {"json": body}
        yield (
            "PUT",
            "/v1/map",
            {
                "params": {"reference": reference} | ({"version": version} if version else {}),
                "content": b"cells",
            },
        )
        yield (
            "POST",
            "/v1/map",
            {
                "files": {"file": b"cells"},
                "data": {"reference": reference} | ({"version": str(version)} if version else {}),
            },
        )


def test_what_is_not_visible_answers_as_what_does_not_exist(place: Place) -> None:
    theirs = list(requests(SHUT, place.query["other"]))
    nothing = list(requests(NONE, place.query["other"]))
    for there, nowhere in zip(theirs, nothing, strict=True):
        shut = place.answer("other", there[0], there[1], **there[2])
        none = place.answer("other", nowhere[0], nowhere[1], **nowhere[2])
        assert shut == none, there
        assert shut[0] == 404, there


@pytest.mark.parametrize("who", ["listed", "admin"])
def test_who_may_see_it_gets_every_answer(place: Place, who: str) -> None:
    for method, address, options in requests(SHUT, place.query[who]):
        status, text, _ = place.answer(who, method, address, **options)
        assert status in {200, 202}, (method, address, options, text)


def test_lists_and_coverage_leave_out_what_is_not_visible(place: Place) -> None:
    for who, seen in (("other", False), ("listed", True), ("admin", True)):
        for address in ("/v1/references", f"/v1/queries/{place.query[who]}"):
            text = place.client.get(address, headers=place.keys[who]).text
            assert (SHUT in text, OPEN in text) == (seen, True), (who, address)
    unknown = place.client.get(f"/v1/references/{NONE}", headers=place.keys["other"]).json()
    assert unknown["known"] == [BARE, OPEN]


def test_nobody_but_administrators_learns_of_it_by_what_only_they_may_do(place: Place) -> None:
    here = "/v1/references/{}"
    for method, path, body in (
        ("GET", "/visibility", None),
        ("PUT", "/visibility", {}),
        ("GET", "/versions/1/impact", None),
        ("PUT", "/aliases/x", {"version": 1}),
        ("DELETE", "/aliases/stable", None),
        ("POST", "/versions/1/deprecate", {"reason": "x"}),
        ("POST", "/versions/1/withdraw", {"reason": "x"}),
    ):
        for who in ("other", "listed"):
            answers = [
                place.answer(who, method, here.format(name) + path, json=body)
                for name in (SHUT, NONE)
            ]
            assert answers[0] == answers[1]
            assert answers[0][0] == 403


def test_every_route_of_references_is_among_these(service: Service) -> None:
    """A new address below a reference's name has to be added to the tests above."""
    tested = {
        "/v1/references/{name}",
        "/v1/references/{name}/genes",
        "/v1/references/{name}/cells.parquet",
        "/v1/references/{name}/versions/{version}",
        "/v1/references/{name}/versions/{version}/genes",
        "/v1/references/{name}/versions/{version}/cells.parquet",
        "/v1/references/{name}/versions/{version}/deprecate",
        "/v1/references/{name}/versions/{version}/withdraw",
        "/v1/references/{name}/versions/{version}/comparison",
        "/v1/references/{name}/versions/{version}/impact",
        "/v1/references/{name}/aliases/{alias}",
        "/v1/references/{name}/visibility",
    }
    paths = create_app(service).openapi()["paths"]
    assert {path for path in paths if path.startswith("/v1/references/")} == tested


def test_results_that_were_made_stay_their_owners(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    for name in (SHUT, OPEN):
        built(database, storage, name=name)
    mapping = asked(database, checked(database, storage, owner="lab-b"), reference=OPEN)
    body = {"reason": "x", "successor": f"{SHUT}@1"}
    client.post(f"/v1/references/{OPEN}/versions/1/deprecate", json=body)
    client.put(f"/v1/references/{SHUT}/visibility", json={"owners": []})
    client.put(f"/v1/references/{OPEN}/visibility", json={"owners": []})
    other = key_for(database, "read", "submit", owner="lab-b")
    answer = client.get(f"/v1/mappings/{mapping.id}", headers=other)
    assert (answer.status_code, answer.json()["reference"]) == (200, OPEN)
    assert answer.json()["warnings"][0]["successor"] is None
    assert SHUT not in answer.text
    assert client.get(answer.json()["links"]["reference"], headers=other).status_code == 404


@pytest.mark.parametrize("cells", ["admin", ["lab-a"]])
def test_cells_that_one_may_not_have_answer_as_those_of_a_reference_without(
    place: Place, cells: Any
) -> None:
    admin = place.keys["admin"]
    wanted = {"owners": None, "cells": cells}
    put = place.client.put(f"/v1/references/{SHUT}/visibility", json=wanted, headers=admin)
    assert put.json()["cells"] == cells
    for path in ("/cells.parquet", "/versions/1/cells.parquet"):
        theirs, none = (
            place.answer("other", "GET", f"/v1/references/{name}{path}") for name in (SHUT, BARE)
        )
        assert theirs == none
        assert theirs[0] == 404
        here = f"/v1/references/{SHUT}{path}"
        assert place.client.get(here, headers=admin).content == b"cells"
        listed = place.client.get(here, headers=place.keys["listed"]).status_code
        assert listed == (404 if cells == "admin" else 200)

    def links(who: str, name: str) -> list[str]:
        shown = place.client.get(f"/v1/references/{name}", headers=place.keys[who]).json()
        return list(shown["links"])

    assert links("other", SHUT) == links("other", BARE) == links("admin", BARE)
    assert "cells" in links("admin", SHUT)
    assert place.client.get(f"/v1/references/{SHUT}/genes", headers=admin).status_code == 200


def test_visibility_is_of_what_exists_and_can_be_taken_back(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    here = f"/v1/references/{SHUT}/visibility"
    assert client.put(here, json={"owners": []}).status_code == 404
    assert client.get(here).status_code == 404
    built(database, storage, name=SHUT)
    assert client.get(here).json()["owners"] is None
    client.put(here, json={"owners": [], "cells": "admin"})
    assert (client.get(here).json()["owners"], client.get(here).json()["cells"]) == ([], "admin")
    client.put(here, json={})
    assert (client.get(here).json()["owners"], client.get(here).json()["cells"]) == (None, "open")
    assert client.put(here, json={"cells": "everybody"}).status_code == 422
