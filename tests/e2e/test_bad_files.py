"""The corpus of bad files through HTTP: all are refused, and nobody notices but their owner."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e import processes
from tests.e2e.service import Serving, serving
from tests.worker.intake.bad import CORPUS, BadFile
from tests.worker.intake.bad.canaries import Watch, lay_out

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PARTS = (processes.API, processes.PARENT, processes.CHILD, processes.ZYGOTE)


@pytest.fixture(scope="module")
def serves(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    data_dir = tmp_path_factory.mktemp("served") / "data"
    shutil.copytree(built, data_dir)
    with serving(data_dir) as started:
        yield started


@pytest.fixture
def client(serves: Serving) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=serves.url, timeout=60) as client:
        yield client


def pids(serves: Serving) -> dict[str, int]:
    return {part: processes.find(serves.process.pid, part) for part in PARTS}


def content_of(bad: BadFile, canaries: Path) -> bytes:
    """Made among the canaries, so that its links lead to them wherever it is sent."""
    path = bad.write(canaries)
    content = path.read_bytes()
    path.unlink()
    return content


def outcome(client: httpx.Client, sent: httpx.Response) -> dict[str, Any]:
    """The problem: of the upload itself, or of the query that it became."""
    if sent.status_code != 201:
        assert sent.headers["content-type"] == "application/problem+json"
        return dict(sent.json())
    query = client.get(f"/v1/queries/{sent.json()['id']}?wait=30").json()
    assert query["state"] == "rejected", query
    return dict(query["problem"])


def faulty(bad: BadFile, problem: dict[str, Any]) -> str | None:
    """What is missing in an answer; None where it tells all that it must."""
    found = {(error["code"], error["pointer"]) for error in problem.get("errors", [])}
    codes = {code for code, _ in found}
    if not 400 <= problem["status"] < 500 or not problem["fix"]:
        return f"{bad.name}: {problem}"
    if bad.damaged:
        return None if codes & set(bad.codes) else f"{bad.name}: {found}"
    right = set(bad.codes) <= codes and (bad.codes[0], bad.pointer) in found
    return None if right else f"{bad.name}: {found}"


def test_every_bad_file_is_refused_and_nothing_dies(
    serves: Serving, client: httpx.Client, query_file: Path, tmp_path: Path
) -> None:
    canaries = tmp_path / "canaries"
    lay_out(canaries)
    good = client.put("/v1/queries", content=query_file.read_bytes()).json()["id"]
    assert client.get(f"/v1/queries/{good}?wait=60").json()["state"] == "ready"
    before = pids(serves)
    contents = {name: content_of(bad, canaries) for name, bad in CORPUS.items()}
    with Watch(canaries) as watch:
        sent = {name: client.put("/v1/queries", content=each) for name, each in contents.items()}
        problems = {name: outcome(client, answer) for name, answer in sent.items()}
        assert not watch.touched()
    told = (faulty(bad, problems[name]) for name, bad in CORPUS.items())
    assert [fault for fault in told if fault] == []
    assert pids(serves) == before
    again = serves.checked(query_file)
    assert again["state"] == "ready"
    assert serves.map(again["id"])["state"] == "succeeded"
