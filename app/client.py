"""A client of a running service: upload, wait, download."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from app.problems import InternalFault, MappingNotFinished, Problem
from app.sent_files import BLOCK, Options, Tell, send_files

WAIT_SECONDS = 20


class Client:
    def __init__(self, server: str, *, api_key: str | None) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(
            base_url=server.rstrip("/"),
            headers=headers,
            timeout=httpx.Timeout(30.0, read=WAIT_SECONDS + 60.0, write=300.0),
        )

    def close(self) -> None:
        self._http.close()

    def map_files(self, files: Sequence[Path], *, options: Options, tell: Tell) -> dict[str, Any]:
        """Upload and map in one request; `tell` gets the number of bytes of each block sent.

        Several files are one query.
        """
        return _read(send_files(self._http, "/v1/map", files, options=options, tell=tell))

    def wait(
        self, mapping: dict[str, Any], tell: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any]:
        """Follow a mapping until it has succeeded; `tell` gets every state seen."""
        etag = ""
        while not mapping["terminal"]:
            answer = self._http.get(
                mapping["links"]["self"],
                params={"wait": WAIT_SECONDS},
                headers={"If-None-Match": etag} if etag else {},
            )
            if answer.status_code != 304:
                mapping = _read(answer)
                etag = answer.headers.get("ETag", "")
            tell(mapping)
        if mapping["problem"]:
            raise Problem.from_dict(mapping["problem"])
        if mapping["state"] != "succeeded":
            raise MappingNotFinished(
                f"Mapping {mapping['id']} was {mapping['state']}, so it has no results.",
                fix="Map the file again if that was not your intention.",
                state=mapping["state"],
            )
        return mapping

    def upload(self, files: Sequence[Path], *, options: Options, tell: Tell) -> dict[str, Any]:
        """Upload without mapping; several files are one query."""
        return _read(send_files(self._http, "/v1/queries", files, options=options, tell=tell))

    def inspect(self, files: Sequence[Path], *, options: Options, tell: Tell) -> dict[str, Any]:
        """The report of files that the service does not keep, however long it takes."""
        path = "/v1/queries:inspect"
        report = _read(send_files(self._http, path, files, options=options, tell=tell, named=False))
        while not report["terminal"]:
            report = _read(self._http.get(report["links"]["self"], params={"wait": WAIT_SECONDS}))
        if report["links"]:
            self._http.delete(report["links"]["self"])
        return report

    def rank(self, query_id: str, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Have the references ranked and wait for it; `tell` gets every state seen."""
        path = f"/v1/queries/{quote(query_id, safe='')}/ranking"
        ranking = _read(self._http.post(path))
        while not ranking["terminal"]:
            ranking = _read(self._http.get(path, params={"wait": WAIT_SECONDS}))
            tell(ranking)
        if ranking["problem"]:
            raise Problem.from_dict(ranking["problem"])
        return ranking

    def download(self, result: Mapping[str, Any], folder: Path, tell: Tell) -> Path:
        """Stream a result to the disk and check its digest before it gets its name."""
        target = folder / Path(result["name"]).name
        beside = target.with_name(f".{target.name}.part")
        digest = hashlib.sha256()
        with self._http.stream("GET", result["links"]["self"]) as answer:
            if answer.is_error:
                answer.read()
                _read(answer)
            with beside.open("wb") as file:
                for block in answer.iter_bytes(BLOCK):
                    digest.update(block)
                    file.write(block)
                    tell(len(block))
        if digest.hexdigest() != result["sha256"]:
            beside.unlink()
            raise InternalFault(f"{target.name} arrived damaged.", fix="Download it again.")
        beside.replace(target)
        return target


def _read(answer: httpx.Response) -> dict[str, Any]:
    if answer.is_success:
        body: dict[str, Any] = answer.json()
        return body
    if answer.headers.get("content-type", "").startswith("application/problem+json"):
        raise Problem.from_dict(answer.json())
    raise InternalFault(
        f"The server answered {answer.status_code} without saying why.",
        fix="Check that --server is the address of a Cellgraft service.",
    )
