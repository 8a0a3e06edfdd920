"""The four calls that map a query: upload, ask, wait, download."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from demo.cellgraft import BATCH_KEY, REFERENCE_NAME
from demo.curl import curl_file, curl_json
from demo.failures import DemoFailed
from demo.steps import tell

MAPPING_SECONDS = 300.0
WAIT_SECONDS = 20


def upload(url: str, file: Path) -> str:
    """The new query's id."""
    query = curl_json(f"{url}/v1/queries/", "-T", str(file))
    tell(f"query {query['id']}: {query['bytes']:,} bytes, {query['state']}")
    return str(query["id"])


def ask(url: str, query: str) -> str:
    """The new mapping's id."""
    request = {"query": query, "reference": REFERENCE_NAME, "batch_key": BATCH_KEY}
    mapping = curl_json(
        f"{url}/v1/mappings", "-H", "Content-Type: application/json", "-d", json.dumps(request)
    )
    tell(f"mapping {mapping['id']}: {mapping['state']}")
    return str(mapping["id"])


def wait(url: str, mapping_id: str) -> dict[str, Any]:
    """The finished mapping."""
    deadline = time.monotonic() + MAPPING_SECONDS
    while time.monotonic() < deadline:
        mapping = curl_json(f"{url}/v1/mappings/{mapping_id}?wait={WAIT_SECONDS}")
        tell(f"{mapping['state']}, {mapping['stage'] or 'no stage'}, {mapping['progress']:.0%}")
        if mapping["terminal"]:
            return _succeeded(mapping)
    raise DemoFailed(f"The mapping was not finished after {MAPPING_SECONDS:.0f} s.")


def _succeeded(mapping: dict[str, Any]) -> dict[str, Any]:
    if mapping["state"] != "succeeded":
        problem = mapping["problem"] or {"detail": "no reason was given.", "fix": ""}
        raise DemoFailed(
            f"The mapping {mapping['state']}: {problem['detail']} {problem['fix']}".rstrip()
        )
    return mapping


def download(url: str, mapping: dict[str, Any], folder: Path) -> None:
    """Every result, each checked against the digest that the service names."""
    folder.mkdir(parents=True, exist_ok=True)
    for result in mapping["results"]:
        path = folder / result["name"]
        curl_file(f"{url}/v1/mappings/{mapping['id']}/results/{result['name']}", path)
        if hashlib.sha256(path.read_bytes()).hexdigest() != result["sha256"]:
            raise DemoFailed(f"{path} is not what the service says it sent.")
