"""The API beside a broker that is there, away, or silent."""

from __future__ import annotations

import http.client
import json
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.app.live import free_port, serving
from tests.redis_server import RedisServer


def call(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, dict, float]:
    """The status, the answer, and the seconds it took."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    began = time.monotonic()
    connection.request(method, path, body=body)
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer, time.monotonic() - began


def test_ready_tells_of_the_broker(tmp_path: Path, database_url: str, redis: RedisServer) -> None:
    with serving(tmp_path, database_url=database_url, broker_url=redis.url) as live:
        assert call(live.port, "GET", "/readyz")[1]["broker"] == "ok"
        redis.kill()
        status, answer, took = call(live.port, "GET", "/readyz")
        assert (status, answer["status"]) == (200, "ready")
        assert "polling" in answer["broker"]
        assert took < 5
        redis.start()
        assert call(live.port, "GET", "/readyz")[1]["broker"] == "ok"


def test_without_a_broker_ready_says_nothing_of_it(tmp_path: Path, database_url: str) -> None:
    with serving(tmp_path, database_url=database_url) as live:
        assert "broker" not in call(live.port, "GET", "/readyz")[1]


@pytest.mark.parametrize("broker", ["away", "silent"])
def test_uploads_do_not_wait_for_the_broker(
    tmp_path: Path, database_url: str, broker: str, record_property: pytest.RecordProperty
) -> None:
    with ExitStack() as stack:
        port = free_port()
        if broker == "silent":
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = server.getsockname()[1]
        url = f"redis://127.0.0.1:{port}/0"
        live = stack.enter_context(serving(tmp_path, database_url=database_url, broker_url=url))
        call(live.port, "POST", "/v1/queries", b"first")  # imports and connects
        answers = [
            call(live.port, "POST", "/v1/queries", f"cells {number}".encode())
            for number in range(20)
        ]
    assert {status for status, _, _ in answers} == {201}
    times = sorted(took for _, _, took in answers)
    record_property("median seconds of a POST", times[10])
    assert times[10] < 0.25
    assert times[-1] < 1
