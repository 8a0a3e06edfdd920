"""A real S3-compatible store over HTTP: the one of CELLGRAFT_TEST_S3_URL, or an emulator."""

from __future__ import annotations

import http.client
import os
import signal
import ssl
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from app.parent_death import die_with_parent
from tests.certificates import Issued

from .faulty_proxy import FaultyProxy, faulty_proxy
from .live import free_port, until

BUCKET = "cellgraft-test"
EMULATOR_KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test-secret"}
GIVEN_URL = os.environ.get("CELLGRAFT_TEST_S3_URL")
NewPlace = Callable[[], str]
SIGNED = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"


@contextmanager
def emulator(log: Path, issued: Issued | None = None) -> Iterator[str]:
    """moto's server as a process of its own, with a bucket; its endpoint. With TLS if `issued`."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    if issued is not None:
        command += ["--ssl", "-c", str(issued.certificate), "-k", str(issued.key)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            preexec_fn=partial(die_with_parent, signal.SIGKILL, parent=os.getpid()),
        )
    try:
        until(lambda: _has_bucket(port, issued))
        yield f"{'http' if issued is None else 'https'}://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def new_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewPlace]:
    """Gives storage URLs, each with a prefix that no other test uses."""
    if GIVEN_URL is not None:
        given = urlsplit(GIVEN_URL)
        yield lambda: given._replace(path=f"{given.path.rstrip('/')}/{uuid.uuid4().hex}").geturl()
        return
    log = tmp_path_factory.mktemp("emulator") / "log"
    with pytest.MonkeyPatch.context() as patch, emulator(log) as endpoint:
        for name, value in EMULATOR_KEYS.items():
            patch.setenv(name, value)
        options = f"endpoint={endpoint}&region=us-east-1"
        yield lambda: f"s3://{BUCKET}/{uuid.uuid4().hex}?{options}"


@pytest.fixture
def behind_proxy(new_place: NewPlace) -> Iterator[tuple[str, FaultyProxy]]:
    """A storage URL that leads through a proxy, and the proxy."""
    place = urlsplit(new_place())
    options = dict(parse_qsl(place.query))
    if not options.get("endpoint", "").startswith("http://"):
        pytest.skip("faults are put into plain HTTP, and CELLGRAFT_TEST_S3_URL is another store")
    with faulty_proxy(options["endpoint"]) as proxy:
        options["endpoint"] = proxy.endpoint
        yield place._replace(query=urlencode(options)).geturl(), proxy


def _has_bucket(port: int, issued: Issued | None) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    if issued is not None:
        trusting = ssl.create_default_context(cafile=str(issued.authority))
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=trusting)
    try:
        connection.request("PUT", f"/{BUCKET}", headers={"Authorization": SIGNED})
        return connection.getresponse().status in {200, 409}
    except OSError:
        return False
    finally:
        connection.close()
