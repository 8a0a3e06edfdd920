"""Clients that upload and ask for mappings all the time, and note every answer they get."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from .checker import TERMINAL
from .history import History

REFERENCE = "tiny"
RETRIED = {409, 429, 503}
"""409 while an earlier request with the same Idempotency-Key is being answered."""
PAUSE_SECONDS = 0.15
ANSWER_SECONDS = 90.0
SESSION_SECONDS = 20.0
LOOK_SECONDS = 1
"""A client that waits hears late that the round is over."""


class GaveUp(Exception):
    """No answer in time, or the round is over."""


@dataclass(frozen=True)
class Work:
    """What clients send."""

    files: Sequence[Path]
    recipes: Sequence[str]
    compared: Sequence[str]
    """Result files whose bytes are a function of the query and the recipe alone."""


class Caller:
    """One user of the service, who asks any API and tries again until there is an answer."""

    def __init__(self, urls: Sequence[str], history: History, dice: random.Random) -> None:
        self.history, self.dice = history, dice
        self.over = threading.Event()
        self._urls = urls
        self._http = httpx.Client(timeout=30)

    def call(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Raises GaveUp."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < deadline and not self.over.is_set():
            try:
                answer = self._http.request(method, self.dice.choice(self._urls) + path, **request)
            except httpx.TransportError:
                time.sleep(PAUSE_SECONDS)
                continue
            if answer.status_code not in RETRIED:
                return self._judged(answer)
            self._judge_refusal(answer)
            time.sleep(PAUSE_SECONDS)
        raise GaveUp(f"{method} {path}")

    def upload(self, file: Path) -> str:
        content = file.read_bytes()
        answer = self.call("PUT", f"/v1/queries/{file.name}", content=content)
        query = str(answer.json()["id"])
        digest = hashlib.sha256(content).hexdigest()
        self.history.note("uploaded", query=query, content=file.name, sha256=digest)
        return query

    def submit(self, query: str, content: str, recipe: str) -> str:
        key = f"{self.dice.getrandbits(64):016x}"
        request = {"query": query, "reference": REFERENCE, "batch_key": "sample", "recipe": recipe}
        answer = self.call(
            "POST",
            "/v1/mappings",
            json={**request, "external_id": key},
            headers={"Idempotency-Key": key},
        )
        mapping = str(answer.json()["id"])
        made = {"mapping": mapping, "key": key, "query": query}
        self.history.note("submitted", **made, content=content, recipe=recipe)
        return mapping

    def rank(self, query: str) -> None:
        """Once for each query: another that is asked for later would take its place."""
        answer = self.call("POST", f"/v1/queries/{query}/ranking")
        self.history.note("ranking asked", ranking=str(answer.json()["id"]))

    def look(self, mapping: str) -> dict[str, Any]:
        """Its body; a final one is noted."""
        body: dict[str, Any] = self.call(
            "GET", f"/v1/mappings/{mapping}?wait={LOOK_SECONDS}"
        ).json()
        if body["state"] in TERMINAL:
            told = {"state": body["state"], "results": digests(body)}
            self.history.note("seen", mapping=mapping, **told)
        return body

    def cancel(self, mapping: str) -> None:
        self.history.note("cancel asked", mapping=mapping)  # before: the answer may be lost
        self._http.post(f"{self.dice.choice(self._urls)}/v1/mappings/{mapping}/cancel")

    def close(self) -> None:
        self._http.close()

    def _judged(self, answer: httpx.Response) -> httpx.Response:
        if answer.status_code >= 400:
            self._error(answer)
            raise GaveUp(f"{answer.request.method} {answer.request.url.path}")
        return answer

    def _judge_refusal(self, answer: httpx.Response) -> None:
        """A 503 is a problem that says when to come back."""
        problem = answer.headers.get("content-type", "").startswith("application/problem+json")
        if answer.status_code == 503 and not (problem and "retry-after" in answer.headers):
            self._error(answer)

    def _error(self, answer: httpx.Response) -> None:
        call = f"{answer.request.method} {answer.request.url.path}"
        self.history.note("error", call=call, detail=f"{answer.status_code} {answer.text[:500]}")


class Client(threading.Thread):
    """Uploads, asks, sometimes cancels, waits for an end, and begins again until `over`."""

    def __init__(self, caller: Caller, work: Work) -> None:
        super().__init__(daemon=True)
        self.caller, self.work = caller, work

    def run(self) -> None:
        while not self.caller.over.is_set():
            try:
                self._session()
            except (GaveUp, httpx.TransportError):
                continue
        self.caller.close()

    def _session(self) -> None:
        dice = self.caller.dice
        file = dice.choice(self.work.files)
        query = self.caller.upload(file)
        if dice.random() < 0.3:
            self.caller.rank(query)
        for _ in range(dice.randint(1, 3)):
            mapping = self.caller.submit(query, file.name, dice.choice(self.work.recipes))
            if dice.random() < 0.05:
                self.caller.cancel(mapping)
        ends = time.monotonic() + SESSION_SECONDS
        while self.caller.look(mapping)["state"] not in TERMINAL and time.monotonic() < ends:
            time.sleep(PAUSE_SECONDS)


def digests(body: dict[str, Any]) -> dict[str, str]:
    """Of a mapping's results, by name."""
    return {each["name"]: each["sha256"] for each in body["results"]}
