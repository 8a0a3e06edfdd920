"""A server in the layout of the Hugging Face Hub, for one model: what its client asks for."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Answers for one repository, whose files lie in a folder."""

    protocol_version = "HTTP/1.1"
    folder: Path
    repository: str
    asked: list[str]

    def log_message(self, *_: object) -> None:
        return None

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        self.asked.append(self.path)
        path = self.path.partition("?")[0]
        if path.startswith(f"/api/models/{self.repository}"):
            told = _describe(self.folder, self.repository, path)
            self._send(200, told, "application/json", body)
        elif path.startswith(f"/{self.repository}/resolve/{COMMIT}/"):
            file = self.folder / path.rsplit("/", 1)[1]
            self._send(200, file.read_bytes(), "application/octet-stream", body)
        else:
            self._send(404, b'{"error": "Repository not found"}', "application/json", body)

    def _send(self, status: int, data: bytes, kind: str, body: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if body:
            self.wfile.write(data)


@contextmanager
def serve(folder: Path, repository: str) -> Iterator[tuple[str, list[str]]]:
    """The address of the hub, and the paths that were asked for."""
    asked: list[str] = []
    told = {"folder": folder, "repository": repository, "asked": asked}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("ThisHub", (Hub,), told))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _describe(folder: Path, repository: str, path: str) -> bytes:
    files = sorted(file.name for file in folder.iterdir())
    if "/tree/" in path:
        listed = [
            {"type": "file", "path": name, "size": (folder / name).stat().st_size, "oid": "0" * 40}
            for name in files
        ]
        return json.dumps(listed).encode()
    told = {
        "_id": "1",
        "id": repository,
        "modelId": repository,
        "sha": COMMIT,
        "private": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "siblings": [{"rfilename": name} for name in files],
    }
    return json.dumps(told).encode()
