"""A real server and real curl: what in-process tests cannot show."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.client import Client
from app.database import Database
from app.jobs import heartbeat
from app.problems import UnknownReference
from app.storage import LocalStorage

from .factories import asked, built, checked, claimed
from .live import Live, serving, until

DATA = os.urandom(3_000_000)
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(tmp_path_factory.mktemp("live"), max_upload_bytes="4000000") as server:
        yield server


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    path = tmp_path / "sample 1.h5ad"
    path.write_bytes(DATA)
    return path


def staged(live: Live) -> list[Path]:
    return list((live.data_dir / "staging").iterdir())


@pytest.mark.parametrize(
    ("arguments", "address", "filename"),
    [
        (["-T", "{}"], "/v1/queries/", "sample 1.h5ad"),
        (["-T", "{}"], "/v1/queries/?tag=x", "sample 1.h5ad"),
        (["-T", "{}"], "/v1/queries", "query.h5ad"),
        (["-X", "POST", "-T", "{}"], "/v1/queries", "query.h5ad"),
        (["-F", "file=@{}", "-F", "tag=x"], "/v1/queries", "sample 1.h5ad"),
        (["--data-binary", "@{}"], "/v1/queries", "query.h5ad"),
    ],
)
def test_curl_uploads(
    live: Live, sample: Path, arguments: list[str], address: str, filename: str
) -> None:
    given = [argument.format(sample) for argument in arguments]
    status, body, _ = live.curl(*given, f"{live.url}{address}")
    assert (status, body["sha256"], body["filename"]) == (201, DIGEST, filename)
    assert staged(live) == []


def test_curl_uploads_chunks_from_a_pipe(live: Live) -> None:
    status, body, _ = live.curl("-T", "-", f"{live.url}/v1/queries", stdin=DATA)
    assert (status, body["sha256"]) == (201, DIGEST)


def test_a_body_over_the_limit_costs_no_bytes(live: Live, tmp_path: Path) -> None:
    big = tmp_path / "big.h5ad"
    big.write_bytes(bytes(50_000_000))
    status, body, sent = live.curl("-T", str(big), f"{live.url}/v1/queries/")
    assert (status, body["type"], sent) == (413, "body-too-large", 0)
    status, body, sent = live.curl("-H", "Expect:", "-T", str(big), f"{live.url}/v1/queries/")
    assert (status, body["type"]) == (413, "body-too-large")
    assert sent < 50_000_000
    status, body, _ = live.curl("-T", "-", f"{live.url}/v1/queries", stdin=bytes(5_000_000))
    assert (status, body["type"]) == (413, "body-too-large")
    assert staged(live) == []


def test_headers_alone_leave_the_connection_in_order(live: Live) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=10)
    for path in ("/healthz", "/v1/references", "/v1/openapi.json", "/v1/nowhere"):
        connection.request("HEAD", path)
        head = connection.getresponse()
        assert head.read() == b""
        connection.request("GET", path)
        got = connection.getresponse()
        assert (head.status, head.headers["Content-Length"]) == (got.status, str(len(got.read())))
    connection.close()


def test_a_wrong_key_and_a_wrong_reference_cost_no_bytes(live: Live, sample: Path) -> None:
    address = f"{live.url}/v1/map/?reference=none"
    status, body, sent = live.curl("-T", str(sample), address)
    assert (status, body["type"], sent) == (404, "unknown-reference", 0)
    status, body, sent = live.curl("-H", "X-API-Key: wrong", "-T", str(sample), address)
    assert (status, body["type"], sent) == (401, "unauthenticated", 0)


def test_a_resumed_upload_is_refused(live: Live, sample: Path) -> None:
    status, body, _ = live.curl("-C", "1000", "-T", str(sample), f"{live.url}/v1/queries/")
    assert (status, body["type"]) == (501, "content-range-unsupported")


def test_a_client_that_goes_away_leaves_nothing(live: Live) -> None:
    with socket.create_connection(("127.0.0.1", live.port)) as connection:
        head = f"PUT /v1/queries HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(DATA)}\r\n\r\n"
        connection.sendall(head.encode() + DATA[:2_000_000])
        until(lambda: staged(live))
    until(lambda: not staged(live))
    until(lambda: "went away" in live.log.read_text())


def test_a_client_that_falls_silent_is_told_and_left(tmp_path: Path) -> None:
    with (
        serving(tmp_path, upload_idle_seconds="0.5") as live,
        socket.create_connection(("127.0.0.1", live.port), timeout=30) as connection,
    ):
        head = "PUT /v1/queries HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n"
        connection.sendall(head.encode() + b"x" * 10)
        answer = b""
        while block := connection.recv(4096):  # until the server closes
            answer += block
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"upload-stalled" in answer
        assert staged(live) == []


def test_a_killed_server_leaves_nothing_half_done(tmp_path: Path) -> None:
    with serving(tmp_path) as first:
        connection = socket.create_connection(("127.0.0.1", first.port))
        head = f"PUT /v1/queries HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(DATA)}\r\n\r\n"
        connection.sendall(head.encode() + DATA[:2_000_000])
        until(lambda: staged(first))
        first.process.kill()
        first.process.wait()
        connection.close()
    left = staged(first)
    assert len(left) == 1
    old = time.time() - 3600
    os.utime(left[0], (old, old))
    with serving(tmp_path) as second:
        until(lambda: not staged(second))
        assert second.curl(f"{second.url}/v1/queries")[1]["items"] == []


def test_500_waiters_leave_the_service_quick(tmp_path: Path) -> None:
    with serving(tmp_path) as live:
        database = Database(f"sqlite:///{tmp_path}/cellgraft.db")
        storage = LocalStorage(tmp_path / "store")
        built(database, storage)
        mapping = asked(database, checked(database, storage))
        claim = claimed(database, "map")
        latencies, bodies = asyncio.run(_crowd(live, database, mapping.id, claim))
        database.close()
    assert sorted(latencies)[int(len(latencies) * 0.9)] < 0.1, latencies
    assert len(bodies) == 500
    assert all(b'"stage":"fitting"' in body for body in bodies)


async def _crowd(
    live: Live, database: Database, mapping_id: str, claim: object
) -> tuple[list[float], list[bytes]]:
    """500 clients wait for a change; /healthz is asked; then the change comes to all of them."""
    first = await _get(live.port, f"/v1/mappings/{mapping_id}")
    etag = next(line for line in first.decode().split("\r\n") if line.lower().startswith("etag"))
    header = f"If-None-Match: {etag.partition(': ')[2]}\r\n"
    waiters = [
        asyncio.create_task(_get(live.port, f"/v1/mappings/{mapping_id}?wait=60", header))
        for _ in range(500)
    ]
    await asyncio.sleep(4)
    assert not any(waiter.done() for waiter in waiters)
    latencies = []
    for _ in range(30):
        started = time.monotonic()
        assert b"alive" in await _get(live.port, "/healthz")
        latencies.append(time.monotonic() - started)
        await asyncio.sleep(0.03)
    with database.writing() as session:
        heartbeat(session, claim, lease_seconds=30, stage="fitting", progress=0.1)  # type: ignore[arg-type]
    return latencies, list(await asyncio.gather(*waiters))


async def _get(port: int, path: str, header: str = "") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{header}Connection: close\r\n\r\n".encode()
    )
    try:
        return await reader.read()
    finally:
        writer.close()


def test_the_client_uploads_waits_and_downloads(tmp_path: Path, sample: Path) -> None:
    from .test_client import finish_in_background

    with serving(tmp_path) as live:
        database = Database(f"sqlite:///{tmp_path}/cellgraft.db")
        storage = LocalStorage(tmp_path / "store")
        built(database, storage)
        client = Client(live.url, api_key=None)
        sent: list[int] = []
        mapping = client.map_files([sample], options={"reference": "pbmc"}, tell=sent.append)
        assert sum(sent) == len(DATA)
        worker = finish_in_background(database, storage, mapping["id"])
        seen: list[str] = []
        done = client.wait(mapping, lambda now: seen.append(now["state"]))
        worker.join()
        assert seen[-1] == "succeeded"
        path = client.download(done["results"][0], tmp_path, lambda _: None)
        assert path.read_bytes() == b"1,2\n"
        with pytest.raises(UnknownReference):
            client.map_files([sample], options={"reference": "none"}, tell=sent.append)
        client.close()
        database.close()
