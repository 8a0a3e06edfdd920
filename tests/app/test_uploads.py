"""Uploads by every protocol, and everything that is refused."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import resource
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from app import uploads
from app.api import allow_open_files, create_app
from app.database import Database
from app.declarations import Declaration
from app.forms import FormReader
from app.fsck import expected_files
from app.parts import parts_of
from app.problems import MalformedUpload, UploadStalled
from app.service import Service
from app.staging import sweep_staging
from app.storage import LocalStorage
from app.tables import Query
from app.uploads import Received

from .factories import built
from .live import until

DATA = bytes(range(256)) * 40
DIGEST = hashlib.sha256(DATA).hexdigest()


def leftovers(service: Service) -> list[Path]:
    return list(service.uploads.staging.iterdir())


@pytest.mark.parametrize(
    ("method", "address"),
    [
        ("PUT", "/v1/queries"),
        ("POST", "/v1/queries"),
        ("PUT", "/v1/queries/"),
        ("POST", "/v1/queries/"),
        ("PUT", "/v1/queries/a%20b.h5ad"),
    ],
)
def test_a_raw_body(
    client: TestClient, service: Service, storage: LocalStorage, method: str, address: str
) -> None:
    answer = client.request(
        method,
        address,
        content=DATA,
        params={"layer": "layers/counts", "external_id": "L1", "tag": ["a", "b"]},
    )
    assert answer.status_code == 201
    body = answer.json()
    assert body["sha256"] == DIGEST
    assert body["state"] == "checking"
    assert body["terminal"] is False
    assert body["problem"] is None
    assert body["options"] == {"layer": "layers/counts", "input": "counts"}
    assert (body["external_id"], body["tags"]) == ("L1", ["a", "b"])
    assert body["created_at"].endswith("Z")
    assert body["filename"] == ("a b.h5ad" if "a%20b" in address else "query.h5ad")
    assert answer.headers["Location"] == body["links"]["self"] == f"/v1/queries/{body['id']}"
    key = f"queries/{body['id']}/{DIGEST}.h5ad"
    assert b"".join(storage.read(key, 0, storage.size(key))) == DATA
    assert leftovers(service) == []


def test_a_form(client: TestClient, service: Service) -> None:
    answer = client.post(
        "/v1/queries?tag=query-string",
        files={"file": ("dir/plate\x07.h5ad", DATA)},
        data={"layer": "raw/X", "tag": ["x", "y"], "sha256": DIGEST},
    )
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert (body["sha256"], body["bytes"]) == (DIGEST, len(DATA))
    assert body["options"]["layer"] == "raw/X"
    assert body["tags"] == ["x", "y"]
    assert body["filename"].startswith("plate")
    assert leftovers(service) == []


def test_a_form_of_several_files_is_one_query(
    client: TestClient, service: Service, storage: LocalStorage, database: Database
) -> None:
    sent = [DATA, DATA, DATA[:5]]
    digests = [hashlib.sha256(data).hexdigest() for data in sent]
    names = ["d/a.h5", "a.h5", "x" * 400 + ".h5"]
    answer = client.post(
        "/v1/queries",
        files=[("file", each) for each in zip(names, sent, strict=True)],
        data={"sample": ["one", "two", "three"], "sha256": digests},
    )
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert body["sha256"] == hashlib.sha256("".join(f"{d}\n" for d in digests).encode()).hexdigest()
    assert body["bytes"] == 2 * len(DATA) + 5
    assert body["filename"] == "a.h5 and 2 more"
    assert body["options"]["sample"] == ["one", "two", "three"]
    assert [part["filename"] for part in body["parts"][:2]] == ["a.h5", "a.h5"]
    with database.reading() as session:
        query = session.get_one(Query, body["id"])
        stored = [
            b"".join(storage.read(part.key, 0, storage.size(part.key))) for part in parts_of(query)
        ]
        assert stored == sent
        expected = [each.key for each in expected_files(session)]
    assert sorted(expected) == sorted(storage.keys())
    assert leftovers(service) == []
    assert client.delete(f"/v1/queries/{body['id']}").status_code == 204
    assert list(storage.keys()) == []


def test_files_of_one_query_stay_locked_until_all_are_there(service: Service) -> None:
    """A sweep in between must not take those that came first."""
    head = b'--B\r\nContent-Disposition: form-data; name="file"\r\n\r\n'

    async def body() -> AsyncIterator[bytes]:
        yield head + DATA + b"\r\n" + head + DATA
        await asyncio.sleep(0)
        assert sweep_staging(service.uploads.staging, older_than_seconds=-1) == 0
        yield b"\r\n--B--\r\n"

    async def receive() -> Received:
        return await service.uploads.receive(body(), Declaration(None, None, b"B"))

    received = asyncio.run(receive())
    assert sweep_staging(service.uploads.staging, older_than_seconds=-1) == 0
    assert [path.read_bytes() for path in received.paths] == [DATA, DATA]
    received.discard()
    assert leftovers(service) == []


def test_the_service_opens_more_files_than_a_shell_allows() -> None:
    held = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, held[1]))
        allow_open_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (held[1], held[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, held)


@pytest.mark.parametrize(
    ("second", "digest"), [(b"", DIGEST), (DATA, "0" * 64)], ids=["empty", "changed"]
)
def test_which_of_several_files_did_not_come_whole_is_told(
    second: bytes, digest: str, client: TestClient, service: Service
) -> None:
    sent = [("file", ("a", DATA)), ("file", ("b", second))]
    answer = client.post("/v1/queries", files=sent, data={"sha256": [DIGEST, digest]})
    assert answer.status_code == 422
    assert "part 2 " in answer.json()["detail"].lower()
    assert leftovers(service) == []


def test_digests_are_checked(client: TestClient, service: Service) -> None:
    good = base64.b64encode(bytes.fromhex(DIGEST)).decode()
    headers = {"Repr-Digest": f"sha-512=:AAAA:, sha-256=:{good}:"}
    assert client.put("/v1/queries", content=DATA, headers=headers).status_code == 201
    assert client.put(f"/v1/queries?sha256={DIGEST.upper()}", content=DATA).status_code == 201
    refused = client.put(f"/v1/queries?sha256={'0' * 64}", content=DATA)
    assert (refused.status_code, refused.json()["type"]) == (422, "digest-mismatch")
    assert refused.json()["sha256"] == DIGEST
    assert leftovers(service) == []


@pytest.mark.parametrize(
    ("request_", "status", "kind"),
    [
        ({"content": b""}, 422, "empty-file"),
        ({"content": [b"", b""]}, 422, "empty-file"),
        ({"content": b"x" * 100_001}, 413, "body-too-large"),
        ({"content": [b"x" * 1000] * 101}, 413, "body-too-large"),
        ({"content": DATA, "headers": {"Content-Range": "bytes 5-9/10"}}, 501,
         "content-range-unsupported"),
        ({"content": DATA, "headers": {"Content-Type": "application/json"}}, 415,
         "unsupported-media-type"),
        ({"content": DATA, "headers": {"Content-Encoding": "gzip"}}, 415,
         "unsupported-media-type"),
        ({"content": DATA, "headers": {"Content-Type": "multipart/form-data"}}, 400,
         "malformed-upload"),
        ({"content": DATA, "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 400,
         "malformed-upload"),
        ({"content": b"--x\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
         400, "malformed-upload"),
        ({"content": DATA, "headers": {"Repr-Digest": "md5=:AAAA:"}}, 400, "malformed-upload"),
        ({"content": DATA, "headers": {"Repr-Digest": "sha-256=:AAAA:"}}, 400, "malformed-upload"),
        ({"content": DATA, "params": {"sha256": "abc"}}, 400, "malformed-upload"),
        ({"content": DATA, "params": {"input": "pictures"}}, 422, "malformed-request"),
        ({"content": DATA, "params": {"inptu": "counts"}}, 422, "malformed-request"),
        ({"data": {"file_": "x"}, "files": {"other": b"x"}}, 400, "malformed-upload"),
        ({"files": [("file", b"x")] * 97}, 400, "malformed-upload"),
        ({"files": [("file", b"x"), ("file", b"")]}, 422, "empty-file"),
        ({"files": [("file", b"x" * 60_000), ("file", b"y" * 60_000)]}, 413, "body-too-large"),
        ({"files": [("file", b"x"), ("file", b"y")], "data": {"sha256": DIGEST}}, 400,
         "malformed-upload"),
        ({"files": [("file", b"x"), ("file", b"y")], "params": {"sha256": DIGEST}}, 400,
         "malformed-upload"),
        ({"files": [("file", DATA), ("file", b"y")], "data": {"sha256": [DIGEST, DIGEST]}}, 422,
         "digest-mismatch"),
        ({"files": {"file": b""}}, 422, "empty-file"),
        ({"files": {"file": b"x"}, "data": {"sha256": "0" * 64}}, 422, "digest-mismatch"),
        ({"files": {"file": b"x"}, "data": {"sha256": "abc"}}, 400, "malformed-upload"),
        ({"files": {"file": DATA}, "data": {"sha256": DIGEST}, "params": {"sha256": "0" * 64}},
         400, "malformed-upload"),
        ({"files": {"file": b"x"}, "data": {"input": "pictures"}}, 422, "malformed-request"),
        ({"files": {"file": b"x"}, "data": {"layer": "x" * 20_000}}, 400, "malformed-upload"),
        ({"files": [("file", b"x")] + [(f"f{n}", (None, "v")) for n in range(257)]}, 400,
         "malformed-upload"),
    ],
)  # fmt: skip
def test_what_is_refused(
    client: TestClient, service: Service, request_: dict[str, Any], status: int, kind: str
) -> None:
    answer = client.put("/v1/queries", **request_)
    assert (answer.status_code, answer.json()["type"]) == (status, kind)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["fix"]
    assert leftovers(service) == []
    assert list(service.storage.keys()) == []


@pytest.mark.parametrize(
    ("address", "step"),
    [("/v1/queries", "app.queries.enqueue"), ("/v1/map?reference=pbmc", "app.mappings.enqueue")],
)
def test_what_cannot_be_recorded_is_not_kept(
    client: TestClient,
    database: Database,
    storage: LocalStorage,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    step: str,
) -> None:
    built(database, storage)
    before = list(storage.keys())

    def locked(*arguments: object, **named: object) -> None:
        raise OperationalError("INSERT", {}, Exception("database is locked"))

    monkeypatch.setattr(step, locked)
    answer = client.put(address, content=DATA)
    assert (answer.status_code, answer.json()["type"]) == (503, "service-busy")
    assert list(storage.keys()) == before


def test_a_full_disk_refuses_before_reading(client: TestClient, service: Service) -> None:
    service.uploads.reserve_bytes = 1 << 62
    answer = client.put("/v1/queries", content=DATA)
    assert (answer.status_code, answer.json()["type"]) == (507, "disk-full")
    assert answer.json()["fault"] == "service"
    assert leftovers(service) == []


def test_a_disk_that_fills_up_leaves_nothing(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, chunks: object) -> None:
        from app.staging import disk_full_told

        with disk_full_told():
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(uploads.StagingFile, "write", full)
    answer = client.put("/v1/queries", content=DATA)
    assert (answer.status_code, answer.json()["type"]) == (507, "disk-full")
    assert leftovers(service) == []


def test_a_stalled_upload_is_given_up(service: Service) -> None:
    service.uploads.idle_seconds = 0.05
    ended = asyncio.Event()

    async def stall() -> AsyncIterator[bytes]:
        try:
            yield DATA
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def upload() -> None:
        with pytest.raises(UploadStalled):
            await service.uploads.receive(stall(), Declaration(None, None, None))

    asyncio.run(upload())
    assert ended.is_set()
    assert leftovers(service) == []


def test_staging_is_swept_again_and_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "FIRST_SWEEP_SECONDS", 0.05)
    monkeypatch.setattr(uploads, "SWEEP_SECONDS", 0.05)
    sweeps: list[int] = []

    def sweep(folder: Path) -> int:
        assert folder == service.uploads.staging
        assert threading.current_thread() is not threading.main_thread()
        sweeps.append(1)
        return 1

    monkeypatch.setattr(uploads, "sweep_staging", sweep)
    with TestClient(create_app(service)):
        until(lambda: len(sweeps) > 3)


def test_a_form_survives_any_cut() -> None:
    body = (
        b'--B\r\nContent-Disposition: form-data; name="tag"\r\n\r\na\r\n'
        b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        + DATA[:300]
        + b'\r\n--B\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
        + DATA[300:500]
        + b"\r\n--B--\r\n"
    )
    for size in (1, 2, 3, 7, 50, 400):
        form = FormReader(b"B")
        parts = [body[start : start + size] for start in range(0, len(body), size)]
        pieces = [piece for part in parts for piece in form.feed(part)]
        form.finish()
        sent = [b"".join(data for number, data in pieces if number == file) for file in (0, 1)]
        assert sent == [DATA[:300], DATA[300:500]]
        assert (form.fields, form.filenames) == ([("tag", "a")], ["x", None])


def test_a_forms_end_is_needed() -> None:
    form = FormReader(b"B")
    form.feed(b'--B\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc')
    with pytest.raises(MalformedUpload):
        form.finish()


def test_upload_and_map_in_one(
    client: TestClient, database: Database, storage: LocalStorage, service: Service
) -> None:
    built(database, storage)
    address = "/v1/map/run7.h5ad?reference=pbmc&batch_key=sample&batch_key=donor&recipe=forward"
    answer = client.put(address, content=DATA)
    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["Location"] == f"/v1/mappings/{body['id']}"
    assert body["options"]["batch_key"] == ["sample", "donor"]
    assert (body["state"], body["reference"], body["version"]) == ("queued", "pbmc", 1)
    assert (body["recipe"], body["queue_position"]) == ("forward", 1)
    assert client.get(body["links"]["query"]).json()["filename"] == "run7.h5ad"
    form = client.post(
        "/v1/map", files={"file": ("x.h5ad", DATA)}, data={"reference": "pbmc", "version": "1"}
    )
    assert form.status_code == 202, form.text
    assert leftovers(service) == []


def test_map_refuses_before_the_file_is_kept(client: TestClient, service: Service) -> None:
    missing = client.put("/v1/map", content=DATA)
    assert (missing.status_code, missing.json()["type"]) == (422, "malformed-request")
    unknown = client.put("/v1/map?reference=none", content=DATA)
    assert (unknown.status_code, unknown.json()["type"]) == (404, "unknown-reference")
    form = client.post("/v1/map", files={"file": DATA}, data={"reference": "none"})
    assert form.status_code == 404
    assert list(service.storage.keys()) == []
    assert leftovers(service) == []


def test_small_bodies_are_limited(client: TestClient) -> None:
    declared = client.post("/v1/mappings", content=b"x" * 1_100_000)
    assert (declared.status_code, declared.json()["type"]) == (413, "body-too-large")
    chunked = client.post("/v1/mappings", content=(b"x" * 100_000 for _ in range(11)))
    assert chunked.status_code == 413
