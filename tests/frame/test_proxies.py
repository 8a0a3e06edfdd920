"""The proxies of deploy/ pass on what Cellgraft needs: uploads as they come, events at once."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.database import Database
from app.storage import LocalStorage
from tests.app.factories import asked, built, checked
from tests.app.live import Live, serving, until

from .proxies import Proxy, caddy, find_nginx, nginx

MEBIBYTE = 1024 * 1024
DATA = os.urandom(4 * MEBIBYTE)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(tmp_path_factory.mktemp("live"), max_upload_bytes=str(5 * MEBIBYTE)) as server:
        yield server


@pytest.fixture(scope="module")
def mapping_id(live: Live) -> str:
    """A mapping that waits for a worker."""
    database = Database(f"sqlite:///{live.data_dir / 'cellgraft.db'}")
    storage = LocalStorage(live.data_dir / "store")
    built(database, storage)
    mapping = asked(database, checked(database, storage))
    database.close()
    return mapping.id


@pytest.fixture(scope="module", params=["caddy", "nginx"])
def proxy(
    request: pytest.FixtureRequest,
    live: Live,
    mapping_id: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Proxy]:
    if request.param == "nginx" and find_nginx() is None:
        from tests.conftest import missing

        missing("nginx: install it (Debian and Ubuntu: apt install nginx-light)")
    start = {"caddy": caddy, "nginx": nginx}[request.param]
    with start(tmp_path_factory.mktemp(request.param), live.port) as running:
        yield running


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file over the limit of the service."""
    path = tmp_path_factory.mktemp("large") / "large.h5ad"
    path.write_bytes(bytes(50_000_000))
    return path


def staged(live: Live) -> int:
    return sum(path.stat().st_size for path in (live.data_dir / "staging").iterdir())


def test_an_upload_is_not_kept_by_the_proxy(live: Live, proxy: Proxy) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
    connection.putrequest("PUT", "/v1/queries/half.h5ad")
    connection.putheader("Content-Length", str(len(DATA)))
    connection.endheaders(DATA[: 3 * MEBIBYTE])
    # The rest has not been sent, and most of this is on the API's disk.
    until(lambda: staged(live) >= MEBIBYTE, 20)
    connection.send(DATA[3 * MEBIBYTE :])
    answer = connection.getresponse()
    assert answer.status == 201
    assert json.loads(answer.read())["bytes"] == len(DATA)
    connection.close()


@pytest.mark.parametrize(
    ("problem", "arguments", "address"),
    [
        ("body-too-large", [], "/v1/queries/"),
        ("unauthenticated", ["-H", "X-API-Key: wrong"], "/v1/queries/"),
        ("unknown-reference", [], "/v1/map/?reference=none"),
        ("malformed-request", [], "/v1/queries/?layer="),
        ("content-range-unsupported", ["-H", "Content-Range: bytes 0-9/10"], "/v1/queries/"),
    ],
)
def test_a_refusal_arrives_while_the_file_is_under_way(
    proxy: Proxy, large: Path, problem: str, arguments: list[str], address: str
) -> None:
    for _ in range(20):
        told = curl(
            *("-H", "Expect:", "-w", "\n%{content_type} %{size_upload}", *arguments),
            *("-T", str(large), f"http://127.0.0.1:{proxy.port}{address}"),
        )
        body, _, numbers = told.rpartition("\n")
        kind, sent = numbers.split()
        assert (kind, json.loads(body)["type"]) == ("application/problem+json", problem)
        assert int(sent) < large.stat().st_size


def test_events_come_at_once(mapping_id: str, proxy: Proxy) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
    connection.request("GET", f"/v1/mappings/{mapping_id}/events")
    events = connection.getresponse()
    assert events.readline().startswith(b"id: ")
    assert events.readline() == b"event: mapping\n"
    connection.close()


def test_one_number_is_in_the_answer_and_in_the_apis_log(live: Live, proxy: Proxy) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
    connection.request("GET", "/v1/queries/nothing", headers={"X-Request-Id": "mine"})
    number = connection.getresponse().headers["X-Request-Id"]
    connection.close()
    assert number != "mine"
    until(lambda: number in live.log.read_text(), 10)


def test_caddys_log_has_the_client_and_no_keys(live: Live, tmp_path: Path) -> None:
    with caddy(tmp_path, live.port) as proxy:
        told = curl(
            *("-H", "Authorization: Bearer cg_one_secret", "-H", "X-API-Key: cg_two_secret"),
            *("-D", "-", f"http://127.0.0.1:{proxy.port}/v1/service-info"),
        )
        (number,) = [
            line.split()[1] for line in told.splitlines() if line.lower().startswith("x-request-id")
        ]
        until(lambda: number in proxy.log.read_text(), 10)
        (line,) = [line for line in proxy.log.read_text().splitlines() if number in line]
    assert json.loads(line)["request"]["remote_ip"] == "127.0.0.1"
    assert json.loads(line)["request_id"] == number
    assert "secret" not in proxy.log.read_text()


def test_tls(live: Live, tmp_path: Path) -> None:
    with caddy(tmp_path, live.port, tls=True) as proxy:
        root = tmp_path / "caddy" / "pki" / "authorities" / "local" / "root.crt"
        url = f"https://localhost:{proxy.port}/healthz"
        until(lambda: curl("--cacert", str(root), url, check=False) == '{"status":"alive"}', 20)


def curl(*arguments: str, check: bool = True) -> str:
    command = ["curl", "-sS", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=check, timeout=60).stdout
