"""A 1,000-cell query by curl to a warm service: seconds from upload to result, and a timeline."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from sqlalchemy import select

from app.database import Database
from app.tables import Event, QueryMapping
from bench import timed_service
from bench.measure import keep, spread
from bench.simulated import simulate
from bench.timed_runs import TIMELINE
from demo.cellgraft import BATCH_KEY, REFERENCE_NAME, build_reference, running_service
from demo.curl import curl_file, curl_json

N_CELLS, ROUNDS = 1000, 7
MOMENTS = (
    "accepted",
    "check claimed",
    "check recorded",
    "claimed",
    "received",
    "loading",
    "reading",
    "fitting",
    "first step",
    "encoding",
    "explaining",
    "writing",
    "done",
    "published",
    "seen",
    "downloaded",
)
"""In their order; `accepted` is the 202 as the client has it."""


@dataclass(frozen=True)
class Client:
    """Where the client's own clock stands, in seconds since 1970."""

    mapping: str
    began: float
    moments: dict[str, float]


def run() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        os.environ[TIMELINE] = str(folder / "timeline")
        reference, queries = folder / "reference.h5ad", []
        simulate(4000, ["a", "b"], seed=4).write_h5ad(reference)
        for number in range(ROUNDS + 1):
            queries.append(folder / f"query-{number}.h5ad")
            simulate(N_CELLS, ["c"], seed=5 + number).write_h5ad(queries[-1])
        build_reference(reference, folder / "data", max_epochs=20)
        with running_service(
            folder / "data", log=folder / "service.log", command=timed_service.COMMAND
        ) as url:
            clients = [_map(url, query, folder) for query in queries]
        timelines = _timelines(folder, clients)
    first, *warm = timelines
    keep(
        "warm",
        {
            "n_cells": N_CELLS,
            "upload_to_result": spread([each["seen"] for each in warm]),
            "accepted_to_first_step": spread([_preparing(each) for each in warm]),
            "checked_to_first_step": spread(
                [each["first step"] - each["check recorded"] for each in warm]
            ),
            "first_job": first["seen"],
            "steps": {
                f"{before} - {after}": spread([each[after] - each[before] for each in warm])
                for before, after in pairwise(MOMENTS)
            },
            "timelines": timelines,
        },
    )


def _preparing(timeline: dict[str, float]) -> float:
    return timeline["first step"] - timeline["accepted"]


def _map(url: str, query: Path, folder: Path) -> Client:
    began = time.time()
    ask = f"{url}/v1/map?reference={REFERENCE_NAME}&batch_key={BATCH_KEY}"
    mapping = curl_json(ask, "-T", str(query))
    accepted = time.time()
    while not mapping["terminal"]:
        mapping = curl_json(f"{url}/v1/mappings/{mapping['id']}?wait=30")
    seen = time.time()
    assert mapping["state"] == "succeeded", mapping["problem"]
    result = f"{url}/v1/mappings/{mapping['id']}/results/latent.parquet"
    curl_file(result, folder / "latent.parquet")
    moments = {"accepted": accepted, "seen": seen, "downloaded": time.time()}
    return Client(mapping["id"], began, moments)


def _timelines(folder: Path, clients: Sequence[Client]) -> list[dict[str, float]]:
    """Seconds since each upload began."""
    lines = (folder / "timeline").read_text().splitlines()
    orders = [json.loads(line) for line in lines]
    database = Database(f"sqlite:///{folder / 'data' / 'cellgraft.db'}")
    told = []
    for client, order in zip(clients, orders, strict=True):
        moments = order | client.moments | _recorded(database, client.mapping)
        told.append({name: round(moments[name] - client.began, 4) for name in MOMENTS})
    database.close()
    return told


def _recorded(database: Database, mapping_id: str) -> dict[str, float]:
    with database.reading() as session:
        mapping = session.get_one(QueryMapping, mapping_id)
        subjects = (mapping.id, mapping.query_id)
        events = session.scalars(select(Event).where(Event.subject_id.in_(subjects)))
        at = {event.kind: event.at.timestamp() for event in events}
    return {
        "check claimed": at["check.running"],
        "check recorded": at["check.succeeded"],
        "claimed": at["map.running"],
        "published": at["map.succeeded"],
    }
