"""A 10,000 x 2,000 query by curl to a warm service: seconds from upload to downloadable latent."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from bench.measure import keep, spread
from bench.simulated import simulate
from demo.cellgraft import BATCH_KEY, REFERENCE_NAME, build_reference, running_service
from demo.curl import curl_file, curl_json

ROUNDS = 3


def run() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        reference, query = folder / "reference.h5ad", folder / "query.h5ad"
        simulate(4000, ["a", "b"], seed=4).write_h5ad(reference)
        simulate(10_000, ["c", "d"], seed=5).write_h5ad(query)
        build_reference(reference, folder / "data", max_epochs=20)
        with running_service(folder / "data", log=folder / "service.log") as url:
            _map(url, query, folder)  # loads the reference, starts the child
            rounds = [_map(url, query, folder) for _ in range(ROUNDS)]
    seconds = [each for each, _ in rounds]
    keep("service", {"seconds": spread(seconds), "stages": [stages for _, stages in rounds]})


def _map(url: str, query: Path, folder: Path) -> tuple[float, dict[str, float]]:
    began = time.perf_counter()
    ask = f"{url}/v1/map?reference={REFERENCE_NAME}&batch_key={BATCH_KEY}"
    mapping = curl_json(ask, "-T", str(query))
    while not mapping["terminal"]:
        mapping = curl_json(f"{url}/v1/mappings/{mapping['id']}?wait=30")
    assert mapping["state"] == "succeeded", mapping["problem"]
    curl_file(
        f"{url}/v1/mappings/{mapping['id']}/results/latent.parquet", folder / "latent.parquet"
    )
    return time.perf_counter() - began, mapping["summary"]["seconds"]
