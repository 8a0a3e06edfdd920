"""Early refusals reach clients that are still sending, and nobody is read from for long."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from app.unread_bodies import LINGER_BYTES, LINGER_SECONDS

from .live import Live, serving

MEBIBYTE = 1024 * 1024
HEAD = "PUT /v1/queries HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: wrong\r\n"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(tmp_path_factory.mktemp("live")) as server:
        yield server


def connected(live: Live, *, length: int, headers: str = "") -> socket.socket:
    """A refused upload, of which nothing but the headers has been sent."""
    connection = socket.create_connection(("127.0.0.1", live.port), timeout=10)
    connection.sendall(f"{HEAD}{headers}Content-Length: {length}\r\n\r\n".encode())
    return connection


def answer_to(connection: socket.socket) -> http.client.HTTPResponse:
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer


def sent_until_cut(connection: socket.socket, block: bytes, *, pause: float = 0) -> int:
    """Send, whatever is answered, until the other end cuts the connection; how many bytes."""
    sent = 0
    while sent < 1000 * len(block):
        try:
            sent += connection.send(block)
        except ConnectionError:
            break
        time.sleep(pause)
    return sent


@pytest.mark.parametrize("headers", ["", "Connection: close\r\n"])
def test_a_client_that_sends_everything_first_reads_the_refusal(live: Live, headers: str) -> None:
    for _ in range(20):
        with closing(connected(live, length=12 * MEBIBYTE, headers=headers)) as connection:
            for _ in range(12):
                connection.sendall(bytes(MEBIBYTE))
            answer = answer_to(connection)
            assert (answer.status, json.loads(answer.read())["type"]) == (401, "unauthenticated")
            assert connection.recv(1) == b""  # and the connection ends in order


def test_a_stalled_client_is_answered_at_once_and_left_after_the_limit(live: Live) -> None:
    began = time.monotonic()
    with closing(connected(live, length=1000)) as connection:
        connection.sendall(b"x" * 10)
        answer = answer_to(connection)
        assert answer.status == 401
        assert answer.headers["Connection"] == "close"
        answer.read()
        assert time.monotonic() - began < LINGER_SECONDS / 2
        assert connection.recv(1) == b""
    assert LINGER_SECONDS - 1 < time.monotonic() - began < LINGER_SECONDS + 2


def test_a_client_that_trickles_is_left_after_the_same_limit(live: Live) -> None:
    began = time.monotonic()
    with closing(connected(live, length=1000)) as connection:
        sent_until_cut(connection, b"x", pause=0.1)
    assert time.monotonic() - began < LINGER_SECONDS + 3


def test_no_more_is_read_than_the_limit(live: Live) -> None:
    with closing(connected(live, length=100 * LINGER_BYTES)) as connection:
        sent = sent_until_cut(connection, bytes(MEBIBYTE))
    # The buffers of both ends take some more.
    assert LINGER_BYTES <= sent < LINGER_BYTES + 32 * MEBIBYTE


def test_a_client_that_waits_to_be_asked_is_not_asked(live: Live) -> None:
    with closing(connected(live, length=1000, headers="Expect: 100-continue\r\n")) as connection:
        received = b""
        while block := connection.recv(4096):
            received += block
    assert received.startswith(b"HTTP/1.1 401")
    assert b"100" not in received.partition(b"\r\n")[0]


def test_lingering_costs_other_clients_nothing(live: Live) -> None:
    stalled = [connected(live, length=1000) for _ in range(100)]
    for connection in stalled:
        assert answer_to(connection).status == 401
    began = time.monotonic()
    status, _, _ = live.curl(f"{live.url}/healthz")
    assert (status, time.monotonic() - began < 1) == (200, True)
    for connection in stalled:
        connection.close()


def test_a_small_body_that_was_read_leaves_the_connection_open(live: Live) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=10)
    for _ in range(2):
        connection.request("POST", "/v1/mappings", b"{", {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 422
        assert answer.headers["Connection"] is None
        answer.read()
    connection.close()
