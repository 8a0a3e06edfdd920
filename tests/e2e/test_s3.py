"""The same requests on an S3-compatible store: the same bytes as with local files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app.s3_storage import S3Storage
from tests.app.object_store import NewPlace
from tests.app.object_store import new_place as new_place
from tests.e2e.service import CELLGRAFT, REFERENCE, Serving, environment, serving

pytestmark = pytest.mark.slow
SAME = {"latent.npy", "latent.parquet", "latent.csv", "query_weights.safetensors", "query.h5ad"}


def digests(mapping: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["sha256"] for each in mapping["results"] if each["name"] in SAME}


def cellgraft(data_dir: Path, url: str, *arguments: str) -> str:
    done = subprocess.run(
        [*CELLGRAFT, *arguments],
        env=environment(data_dir, storage_url=url),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def moved_to(url: str, built: Path, folder: Path) -> Path:
    """A copy of the data folder whose files are in the store and nowhere else."""
    data_dir = folder / "data"
    shutil.copytree(built, data_dir)
    store = S3Storage(url, folder=folder / "cache", max_bytes=1)
    for file in sorted((data_dir / "store").rglob("*")):
        if file.is_file():
            store.publish_file(file, file.relative_to(data_dir / "store").as_posix())
    shutil.rmtree(data_dir / "store")
    return data_dir


def test_the_same_bytes_come_from_the_store(
    service: Serving, built: Path, query_file: Path, new_place: NewPlace, tmp_path: Path
) -> None:
    local = service.map(service.checked(query_file)["id"], batch_key="sample")
    assert local["state"] == "succeeded", local["problem"]
    url = new_place()
    data_dir = moved_to(url, built, tmp_path)
    with serving(data_dir, storage_url=url) as distant:
        query = distant.checked(query_file)
        for _ in range(2):  # the second time from the copies of the first
            mapping = distant.map(query["id"], batch_key="sample")
            assert mapping["state"] == "succeeded", mapping["problem"]
            assert digests(mapping) == digests(local)
        assert set(digests(local)) == SAME
        latent = distant.result(mapping["id"], "latent.npy")
        assert latent == service.result(local["id"], "latent.npy")
        there = f"/v1/mappings/{mapping['id']}/results/latent.npy"
        assert distant.curl(there, "-r", "10-19").body == latent[10:20]
        deleted = distant.curl(f"/v1/mappings/{mapping['id']}", "-X", "DELETE")
        assert deleted.status == 204
    assert not (data_dir / "store").exists()
    assert "agree" in cellgraft(data_dir, url, "fsck")
    assert "as they were made" in cellgraft(data_dir, url, "references", "verify", REFERENCE)
