"""Between the parts: Redis, PostgreSQL and the store over TLS, with certificates looked at."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from app.bell import CeleryBell
from app.database import Database
from app.engines import open_engine
from app.problems import StorageAway
from app.s3_storage import S3Storage
from tests.app.factories import built
from tests.app.object_store import BUCKET, EMULATOR_KEYS, emulator
from tests.certificates import Authority, Issued
from tests.conftest import missing
from tests.postgresql import own_server
from tests.redis_server import RedisServer, TlsRedis, running

from .fleet import Fleet
from .test_bell import DEAF_TO_THE_CLOCK


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def issued(request: pytest.FixtureRequest, authority: Authority) -> Issued:
    return authority.issue("redis", address=getattr(request, "param", "127.0.0.1"))


@pytest.fixture(params=[False, True], ids=["server", "both"])
def asks_clients(request: pytest.FixtureRequest) -> bool:
    asked: bool = request.param
    return asked


@pytest.fixture
def redis(tmp_path: Path, issued: Issued, asks_clients: bool) -> Iterator[RedisServer]:
    program = shutil.which("redis-server")
    if program is None:
        missing("redis-server: install it")
    with running(TlsRedis(program, tmp_path, issued, asks_clients=asks_clients)) as server:
        yield server


@pytest.fixture
def url(redis: RedisServer, issued: Issued, authority: Authority, asks_clients: bool) -> str:
    given = f"{redis.url}?ssl_cert_reqs=required&ssl_ca_certs={authority.file}"
    if asks_clients:
        given += f"&ssl_certfile={issued.certificate}&ssl_keyfile={issued.key}"
    return given


@pytest.fixture
def fleet(tmp_path: Path, database: Database, database_url: str, url: str) -> Iterator[Fleet]:
    bell = CeleryBell(url)
    made = Fleet(tmp_path, database, database_url, url, bell)
    built(database, made.storage)
    yield made
    bell.close()


def test_rings_go_over_tls(fleet: Fleet, redis: RedisServer) -> None:
    with fleet.working(1, seconds=0, **DEAF_TO_THE_CLOCK):
        fleet.finish(fleet.ask())
        for _ in range(5):
            job = fleet.ask()
            assert fleet.wait(lambda job=job: fleet.count([job], "succeeded")) < 1
        redis.kill()
        redis.start()
        job = fleet.ask()
        assert fleet.wait(lambda: fleet.count([job], "succeeded")) < 5


@pytest.mark.parametrize("asks_clients", [False], indirect=True)
@pytest.mark.parametrize(
    ("options", "answers"),
    [
        ("?ssl_cert_reqs=required&ssl_ca_certs={theirs}", True),
        ("?ssl_ca_certs={theirs}", True),
        ("?ssl_cert_reqs=none&ssl_check_hostname=false", True),
        ("", False),
        ("?ssl_cert_reqs=required", False),
        ("?ssl_ca_certs={others}", False),
    ],
)
def test_a_certificate_that_nobody_vouches_for_is_refused(
    redis: RedisServer, authority: Authority, tmp_path: Path, options: str, answers: bool
) -> None:
    others = authority_elsewhere(tmp_path)
    bell = CeleryBell(redis.url + options.format(theirs=authority.file, others=others.file))
    assert bell.answers() is answers


@pytest.mark.parametrize("asks_clients", [False], indirect=True)
@pytest.mark.parametrize("issued", ["127.0.0.2"], indirect=True)
def test_a_certificate_of_another_machine_is_refused(url: str) -> None:
    assert CeleryBell(url).answers() is False
    assert CeleryBell(f"{url}&ssl_check_hostname=false").answers() is True


def test_postgresql_over_tls(postgres_programs: Path) -> None:
    # Not below pytest's own folder, which the server's user may not enter.
    with TemporaryDirectory() as readable:
        folder = Path(readable)
        folder.chmod(0o755)
        authority = Authority(folder)
        issued = authority.issue("postgres", address="127.0.0.1")
        issued.key.chmod(0o600)
        if os.geteuid() == 0:
            shutil.chown(issued.key, "postgres")
        options = ("ssl=on", f"ssl_cert_file={issued.certificate}", f"ssl_key_file={issued.key}")
        with own_server(postgres_programs, options=options) as server:
            url = f"{server.url}?sslmode=verify-full&sslrootcert="
            engine = open_engine(f"{url}{authority.file}")
            with engine.connect() as connection:
                used = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
                assert connection.scalar(text(used)) is True
            engine.dispose()
            stranger = authority_elsewhere(folder)
            with pytest.raises(OperationalError, match="SSL error"):
                open_engine(f"{url}{stranger.file}").connect()


def test_the_store_over_tls(
    authority: Authority, issued: Issued, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in EMULATOR_KEYS.items():
        monkeypatch.setenv(name, value)
    with emulator(tmp_path / "emulator.log", issued) as endpoint:
        url = f"s3://{BUCKET}/tls?endpoint={endpoint}&region=us-east-1"
        stranger = authority_elsewhere(tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", str(stranger.file))
        with pytest.raises(StorageAway):
            S3Storage(url, folder=tmp_path / "one", max_bytes=1).check_writable()
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        S3Storage(url, folder=tmp_path / "two", max_bytes=1).check_writable()


def authority_elsewhere(folder: Path) -> Authority:
    """One that has signed nothing here."""
    (folder / "elsewhere").mkdir()
    return Authority(folder / "elsewhere")
