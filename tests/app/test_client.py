"""The command line, fsck and the supervisor, as processes."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from sqlalchemy import update

from app.client import Client
from app.database import Database
from app.forms import FormReader
from app.fsck import check_everything, repair
from app.jobs import claim_next, fail_job
from app.mappings import cancel_mapping, record_results
from app.presence import serving
from app.problems import MappingNotFinished, NotCounts
from app.queries import accept_query
from app.settings import Settings
from app.storage import LocalStorage
from app.supervisor import PortBusy, check_port, url_of
from app.tables import Worker

from .factories import asked, built, checked, claimed, mapped, uploaded
from .live import answers, environment, free_port, until


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    return sqlite_url  # processes and files; test_database_urls has the commands on PostgreSQL


def finish_in_background(
    database: Database, storage: LocalStorage, mapping_id: str
) -> threading.Thread:
    """A worker that computes nothing."""

    def work() -> None:
        for kind in ("check", "map"):
            with database.writing() as session:
                claim = claim_next(session, worker="w", kinds=[kind], lease_seconds=30)
            assert claim is not None
            with database.writing() as session:
                if kind == "check":
                    accept_query(session, claim, canonical_prefix="queries/x", inspection={})
                    continue
                prefix = f"mappings/{mapping_id}/1"
                folder = storage.local_folder(prefix)
                folder.mkdir(parents=True)
                (folder / "latent.csv").write_bytes(b"1,2\n")
                result = {
                    "name": "latent.csv",
                    "bytes": 4,
                    "sha256": hashlib.sha256(b"1,2\n").hexdigest(),
                    "media_type": "text/csv",
                }
                record_results(session, claim, results_prefix=prefix, results=[result], summary={})

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def cellgraft(data_dir: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        env=environment(data_dir, free_port(), **settings),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_fsck_finds_what_is_missing_damaged_or_nobodys(
    database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    query = checked(database, storage)
    mapping = mapped(database, storage, query)
    waiting = uploaded(database, storage)

    def findings() -> list[tuple[str, str]]:
        with database.reading() as session:
            found = check_everything(session, storage, tell=lambda key: None)
        return [(finding.kind, finding.key) for finding in found]

    assert findings() == []
    orphan = storage.root / "mappings" / mapping.id / "7" / "latent.csv"
    orphan.parent.mkdir()
    orphan.write_bytes(b"late")
    storage.local_path(query.storage_key).write_bytes(b"other")
    storage.local_path(waiting.storage_key).unlink()
    assert sorted(findings()) == [
        ("damaged", query.storage_key),
        ("missing", waiting.storage_key),
        ("orphan", f"mappings/{mapping.id}/7/latent.csv"),
    ]
    with database.reading() as session:
        found = check_everything(session, storage, tell=lambda key: None)
    assert repair(storage, found) == 1
    assert not orphan.exists()
    assert len(findings()) == 2


def test_what_arrives_during_a_check_is_no_orphan(
    database: Database, storage: LocalStorage
) -> None:
    uploaded(database, storage)
    with database.reading() as session:
        found = check_everything(session, storage, tell=lambda key: uploaded(database, storage))
    assert found == []


def test_what_ended_mappings_left_behind_is_nobodys(
    database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    query = checked(database, storage)
    cancelled, failed, waiting = (asked(database, query) for _ in range(3))
    with database.writing() as session:
        cancel_mapping(session, owner="local", mapping_id=cancelled.id)
    with database.writing() as session:
        fail_job(session, claimed(database, "map"), NotCounts("No.", fix="Send counts."))
    for mapping in (cancelled, failed, waiting):
        left = storage.local_folder(f"mappings/{mapping.id}/1")
        left.mkdir(parents=True)
        (left / "latent.csv").write_bytes(b"half")
    with database.reading() as session:
        found = check_everything(session, storage, tell=lambda key: None)
    assert {finding.key for finding in found} == {
        f"mappings/{mapping.id}/1/latent.csv" for mapping in (cancelled, failed)
    }


def test_a_repair_needs_a_stopped_service(tmp_path: Path, database: Database) -> None:
    stray = LocalStorage(tmp_path / "store").root / "stray"
    stray.write_bytes(b"")

    def repair_by_command() -> subprocess.CompletedProcess[str]:
        return cellgraft(tmp_path, "fsck", "--repair", database_url=str(database.engine.url))

    with serving(tmp_path):
        refused = repair_by_command()
    assert (refused.returncode, "An API serves" in refused.stderr) == (1, True)
    with database.writing() as session:
        claim_next(session, worker="w", kinds=["check"], lease_seconds=30)
    refused = repair_by_command()
    assert (refused.returncode, "A worker was alive" in refused.stderr) == (1, True)
    assert stray.exists()
    forget_workers(database)
    assert repair_by_command().returncode == 0
    assert not stray.exists()


def forget_workers(database: Database) -> None:
    with database.writing() as session:
        session.execute(update(Worker).values(seen_at=0))
        session.commit()


def test_keys_references_and_fsck_by_command(tmp_path: Path) -> None:
    assert cellgraft(tmp_path, "migrate").returncode == 0
    made = cellgraft(tmp_path, "keys", "create", "first", "--scope", "admin")
    assert made.returncode == 0
    assert made.stdout.startswith("cg_")
    key_id = made.stdout.split("_")[1]
    assert key_id in cellgraft(tmp_path, "keys", "list").stdout
    assert "revoked" in cellgraft(tmp_path, "keys", "revoke", key_id).stdout
    wrong = cellgraft(tmp_path, "keys", "create", "x", "--scope", "everything")
    assert (wrong.returncode, "Choose from" in wrong.stderr) == (1, True)
    unknown = cellgraft(tmp_path, "references", "show", "none")
    assert (unknown.returncode, "There is no reference 'none'" in unknown.stderr) == (1, True)
    assert "Traceback" not in unknown.stderr
    database = Database(f"sqlite:///{tmp_path}/cellgraft.db")
    built(database, LocalStorage(tmp_path / "store"))
    forget_workers(database)
    database.close()
    assert "pbmc" in cellgraft(tmp_path, "references", "list").stdout
    assert '"version": 1' in cellgraft(tmp_path, "references", "show", "pbmc").stdout
    assert cellgraft(tmp_path, "fsck").returncode == 0
    assert cellgraft(tmp_path, "references", "remove", "pbmc", "1", "--yes").returncode == 0
    assert "withdrawn" in cellgraft(tmp_path, "references", "list").stdout
    assert not (tmp_path / "store" / "references" / "pbmc").exists()
    (tmp_path / "store" / "stray").write_bytes(b"")
    found = cellgraft(tmp_path, "fsck")
    assert (found.returncode, "orphan: stray" in found.stdout) == (1, True)
    assert cellgraft(tmp_path, "fsck", "--repair").returncode == 0


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    wrong = cellgraft(tmp_path, "migrate", max_upload_bytes="many")
    assert wrong.returncode == 2
    assert "CELLGRAFT_MAX_UPLOAD_BYTES" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_map_without_a_server(tmp_path: Path) -> None:
    file = tmp_path / "x.h5ad"
    file.write_bytes(b"x")
    address = f"http://127.0.0.1:{free_port()}"
    answer = cellgraft(tmp_path, "map", str(file), "--server", address, "--reference", "r")
    assert answer.returncode == 1
    assert f"Nothing answers at {address}" in answer.stderr


def test_map_of_a_connection_that_breaks(tmp_path: Path) -> None:
    file = tmp_path / "x.h5ad"
    file.write_bytes(b"x")
    with socket.create_server(("127.0.0.1", 0)) as server:
        hanging_up = threading.Thread(target=lambda: server.accept()[0].close())
        hanging_up.start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        answer = cellgraft(tmp_path, "map", str(file), "--server", address, "--reference", "r")
        hanging_up.join()
    assert answer.returncode == 1
    assert f"The connection to {address} broke" in answer.stderr
    assert "Traceback" not in answer.stderr


def answered(monkeypatch: pytest.MonkeyPatch, body: dict[str, object]) -> list[httpx.Request]:
    """Every request of a client made from here on gets this answer."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        request.read()
        seen.append(request)
        return httpx.Response(200, json=body)

    whole = httpx.Client

    def mocked(**given: object) -> httpx.Client:
        return whole(transport=httpx.MockTransport(answer), **given)  # type: ignore[arg-type]

    monkeypatch.setattr(httpx, "Client", mocked)
    return seen


def test_a_cancelled_mapping_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    answered(monkeypatch, {})
    mapping = {"id": "m1", "terminal": True, "problem": None, "state": "cancelled"}
    with pytest.raises(MappingNotFinished, match="m1 was cancelled"):
        Client("http://x", api_key=None).wait(mapping, lambda now: None)


def test_the_files_name_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "50%20 of #3?.h5ad"
    file.write_bytes(b"x")
    seen = answered(monkeypatch, {})
    Client("http://x", api_key=None).map_files([file], options={}, tell=lambda sent: None)
    assert seen[0].url.raw_path == b"/v1/map/50%2520%20of%20%233%3F.h5ad"


def test_several_files_are_one_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / "a.h5", tmp_path / "b.h5"]
    for number, file in enumerate(files):
        file.write_bytes(bytes([65 + number]) * 100_000)
    seen = answered(monkeypatch, {})
    sent: list[int] = []
    options = {"sample": ["x", "y"], "layer": None}
    Client("http://x", api_key=None).upload(files, options=options, tell=sent.append)
    request = seen[0]
    assert (request.method, request.url.path) == ("POST", "/v1/queries")
    assert request.url.params.get_list("sample") == ["x", "y"]
    form = FormReader(request.headers["Content-Type"].partition("boundary=")[2].encode())
    pieces = form.feed(request.content)
    form.finish()
    assert form.filenames == ["a.h5", "b.h5"]
    assert [b"".join(data for at, data in pieces if at == number) for number in (0, 1)] == [
        file.read_bytes() for file in files
    ]
    assert sum(sent) == 200_000
    assert int(request.headers["Content-Length"]) == len(request.content)


def test_an_open_address_without_keys_is_refused(tmp_path: Path) -> None:
    refused = cellgraft(tmp_path, "serve", "--host", "0.0.0.0")
    assert refused.returncode == 1
    assert "keys create" in refused.stderr


def test_a_busy_port_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortBusy):
            check_port("127.0.0.1", port)
        refused = cellgraft(tmp_path, "serve", "--port", str(port))
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "--port" in refused.stderr


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("lab.example", "http://lab.example:8000"),
    ],
)
def test_the_url_that_is_shown(host: str, url: str) -> None:
    assert url_of(Settings(host=host)) == url


def children_of(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


def api_of(pid: int) -> int | None:
    for child in children_of(pid):
        if b"app.cli\0api" in Path(f"/proc/{child}/cmdline").read_bytes():
            return child
    return None


@pytest.fixture
def supervised(tmp_path: Path):
    port = free_port()
    ready = tmp_path / "ready"
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "serve", "--ready-file", str(ready)],
        env=environment(tmp_path, port),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        until(ready.exists)
        yield process, port, ready
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_the_supervisor_restarts_and_stops(supervised) -> None:  # type: ignore[no-untyped-def]
    process, port, ready = supervised
    assert ready.read_text() == f"http://127.0.0.1:{port}\n"
    assert f"http://127.0.0.1:{port}" in process.stdout.readline()
    first = api_of(process.pid)
    os.kill(first, signal.SIGKILL)
    until(lambda: api_of(process.pid) not in {None, first})
    until(lambda: answers(port))
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert not answers(port)
    assert not ready.exists()


def test_the_children_die_with_the_supervisor(supervised) -> None:  # type: ignore[no-untyped-def]
    process, port, _ = supervised
    children = children_of(process.pid)
    process.kill()
    process.wait()
    until(lambda: not answers(port))
    deadline = time.monotonic() + 30
    while any(_is_alive(child) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
