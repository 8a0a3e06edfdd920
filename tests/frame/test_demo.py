"""The demo's own parts: how it judges, and how it fails. `make demo` runs the whole."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from demo.agreement import label_agreement
from demo.cellgraft import free_port, running_service, surroundings
from demo.curl import curl_json
from demo.failures import DemoFailed
from demo.mapping import wait
from demo.run import _missed

PROBLEM = {"detail": "There is no query 'x'.", "fix": "Upload it first."}
FAILED = {
    "id": "1",
    "state": "failed",
    "terminal": True,
    "stage": None,
    "progress": 0.4,
    "problem": PROBLEM,
}


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        missing = self.path == "/missing"
        body = json.dumps(PROBLEM if missing else FAILED).encode()
        self.send_response(404 if missing else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def clusters(rng: np.random.Generator, *centres: float) -> np.ndarray:
    return np.concatenate([rng.normal(centre, 0.1, size=(40, 3)) for centre in centres])


def test_agreement_is_the_share_of_cells_among_their_own() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(["B", "T"], 40)
    reference = clusters(rng, 0.0, 5.0)
    assert label_agreement(reference, labels, clusters(rng, 0.0, 5.0), labels) == 1.0
    assert label_agreement(reference, labels, clusters(rng, 5.0, 0.0), labels) == 0.0
    assert label_agreement(reference, labels, clusters(rng, 0.0, 0.0), labels) == 0.5


def test_agreement_leaves_out_types_that_the_reference_lacks() -> None:
    rng = np.random.default_rng(0)
    labels, truth = np.repeat(["B", "T"], 40), np.repeat(["B", "new"], 40)
    query = clusters(rng, 0.0, 2.0)
    assert label_agreement(clusters(rng, 0.0, 5.0), labels, query, truth) == 1.0


def test_bars() -> None:
    assert _missed(0.97, 0.7) == []
    assert len(_missed(0.94, 0.81)) == 2


def test_a_problem_is_told_in_the_service_s_own_words(url: str) -> None:
    with pytest.raises(DemoFailed, match=r"There is no query 'x'\. Upload it first\."):
        curl_json(f"{url}/missing")


def test_a_failed_mapping_is_told(url: str) -> None:
    with pytest.raises(DemoFailed, match=r"The mapping failed: There is no query 'x'\."):
        wait(url, "1")


def test_a_service_that_is_not_there_is_told() -> None:
    with pytest.raises(DemoFailed, match="connect"):
        curl_json(f"http://127.0.0.1:{free_port()}/v1/mappings/1")


def test_the_service_starts_and_stops_whatever_happens(tmp_path) -> None:
    def interrupted() -> None:
        with running_service(tmp_path / "data", log=tmp_path / "log") as url:
            assert curl_json(f"{url}/healthz") == {"status": "alive"}
            urls.append(url)
            raise KeyboardInterrupt

    urls: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(DemoFailed, match="connect"):
        curl_json(f"{urls[0]}/healthz")


def test_nobody_s_settings_reach_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLGRAFT_DATABASE_URL", "sqlite:///somebody's.db")
    assert not [name for name in surroundings() if name.startswith("CELLGRAFT_")]
