"""docs/operations.md: its commands, services, paths and numbers are those of the code."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path

import pytest

from app import api
from app.api import create_app
from app.database import START_SECONDS
from app.engines import CONNECTIONS
from app.fsck import IN_FLIGHT_SECONDS
from app.routes.streams import QUIET_SECONDS
from app.service import open_service
from app.settings import Settings
from app.unread_bodies import LINGER_BYTES, LINGER_SECONDS
from app.workers import ALIVE_SECONDS
from worker.lanes import Timing
from worker.workplace import Workplace

from .deployment import last, services
from .documents import ROOT, call_of, code_of, text

OPERATIONS = text("docs/operations.md")
TOLD = " ".join(OPERATIONS.split())
LINES = [line for name in ("docs/operations.md", "README.md") for line in code_of(text(name))]
CALLS = sorted(
    {
        found[1]
        for line in LINES
        for found in re.finditer(
            r"(?:^|(?:--|api|worker) )cellgraft (?!--|serve`)([a-z][^`]*)", line
        )
    }
)


@pytest.mark.parametrize("line", CALLS)
def test_commands_exist_with_their_options(line: str) -> None:
    call = call_of(shlex.split(line))
    assert call.options <= call.known_options


def test_commands_are_found() -> None:
    assert {"fsck", "fsck --repair", "keys create admin --scope admin"} <= set(CALLS)


def test_services_that_compose_is_asked_for_exist() -> None:
    named = set()
    for line in LINES:
        if line.startswith("docker compose ") and "-f compose.embedded.yml" not in line:
            named |= set(re.findall(r"--scale (\w+)=", line))
            named |= set(re.findall(r"(?:run --rm|exec -T)(?: -v \S+)? ([\w-]+)", line))
            assert set(re.findall(r"--profile (\w+)", line)) <= {"gpu"}
    assert {"api", "worker", "migrate", "postgres"} <= named
    assert named <= set(services())


def test_the_store_is_copied_by_an_image_and_a_volume_of_the_file() -> None:
    (line,) = [line for line in LINES if line.startswith("docker run ")]
    assert services()["postgres"]["image"] in line
    assert "cellgraft_store:/data:ro" in line
    assert services()["store"]["volumes"][0]["source"] == "store"


def test_files_and_modules_exist() -> None:
    named = set(re.findall(r"`(deploy/[\w./-]+)`", OPERATIONS))
    assert named
    for name in named:
        assert (ROOT / name).exists()
    for name in set(re.findall(r"`([a-z.-]+\.yaml)`", OPERATIONS)):
        assert (ROOT / "deploy" / "kubernetes" / name).is_file()
    assert "python -m app.presence" in OPERATIONS
    assert "app.presence" in last("worker", "HEALTHCHECK")


def test_addresses_are_routes(tmp_path: Path) -> None:
    service = open_service(Settings(data_dir=tmp_path))
    paths = create_app(service).openapi()["paths"]
    for name in set(re.findall(r"`(?:GET )?(/(?:healthz|readyz)[^`]*)`", OPERATIONS)):
        assert name in paths
    service.database.close()


def test_numbers_are_those_of_the_code() -> None:
    assert f"open {CONNECTIONS} connections" in TOLD
    assert f"events for up to {QUIET_SECONDS} seconds" in TOLD
    assert f"a sign of life in the last {ALIVE_SECONDS} seconds" in TOLD
    assert f"alive in the last {ALIVE_SECONDS} seconds" in TOLD
    assert f"more than {IN_FLIGHT_SECONDS // 3600} hours before the check" in TOLD
    assert f"waits for it for {START_SECONDS} seconds, then ends" in TOLD
    assert "waits for it for 5 minutes" in TOLD
    assert Workplace.patience_seconds == 300
    assert "five seconds twice for each of its two lanes" in TOLD
    assert Timing().drain_seconds == 5
    assert services()["worker"]["stop_grace_period"] == "1m0s"
    assert "answering within five seconds" in TOLD
    assert "timeout_graceful_shutdown=5" in inspect.getsource(api)
    assert f"at most {LINGER_SECONDS:g} seconds and {LINGER_BYTES // 1024**2} MiB after" in TOLD
    assert LINGER_SECONDS < 5


def test_polling_is_what_the_document_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLGRAFT_BROKER_URL", "redis://127.0.0.1:1/0")
    assert "5 seconds beside a broker" in TOLD
    assert Settings().poll_seconds == 5
