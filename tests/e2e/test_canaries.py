"""What is in a file reaches nobody but its owner: not a log, not a metric, not another's answer.

Every text of these files but the names of genes and columns is a canary, and so are their names.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import anndata
import numpy as np
import pytest

from tests.e2e.cells import cells, write
from tests.e2e.service import REFERENCE, Serving, cellgraft, serving

pytestmark = pytest.mark.slow
CANARY = "zqcanary"
JSON = ["-H", "Content-Type: application/json"]


@pytest.fixture(scope="module")
def guarded(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    data_dir = tmp_path_factory.mktemp("canaries") / "data"
    shutil.copytree(built, data_dir)
    with serving(data_dir, max_upload_bytes="20000000") as started:
        create = ["keys", "create", "k", "--scope", "admin", "--owner"]
        started.key = cellgraft(data_dir, *create, "mine").strip()
        yield started


def canaries(n: int, *, batches: int = 2) -> anndata.AnnData:
    adata = cells(n, [f"{CANARY}-batch-{i}" for i in range(batches)], seed=3)
    adata.obs["cell_type"] = [f"{CANARY}-type-{i % 3}" for i in range(n)]
    adata.obs["barcode"] = [f"{CANARY}-bc-{i}" for i in range(n)]
    adata.obs["contact"] = f"{CANARY}@example.org"
    adata.obs_names = [f"{CANARY}-cell-{i}" for i in range(n)]
    adata.uns["note"] = {f"{CANARY}-key": f"{CANARY}-value"}
    return adata


def bad_files(folder: Path) -> list[Path]:
    """Files that fail at one stage each: the values, the structure, the bytes, the format."""
    fractional = canaries(60)
    fractional.X = fractional.X * 0.5
    nothing = canaries(60)
    nothing.X = nothing.X * 0
    negative = canaries(60)
    negative.X = negative.X * -1
    found = [
        write(folder / f"{CANARY}-{name}.h5ad", adata)
        for name, adata in {"half": fractional, "zero": nothing, "minus": negative}.items()
    ]
    whole = found[0].read_bytes()
    flipped = bytearray(whole)
    for at in np.random.default_rng(0).integers(100, len(whole), 200):
        flipped[at] ^= 0x55
    others = {"cut": whole[: len(whole) // 2], "flip": bytes(flipped), "text": CANARY.encode() * 9}
    for name, content in others.items():
        found.append(folder / f"{CANARY}-{name}.h5ad")
        found[-1].write_bytes(content)
    return found


def test_what_is_in_a_file_stays_with_its_owner(guarded: Serving, tmp_path: Path) -> None:
    good = write(tmp_path / f"{CANARY}.h5ad", canaries(200))
    query = guarded.checked(good, "?batch_key=sample&condition_key=sample")
    assert query["state"] == "ready"
    assert guarded.map(query["id"], batch_key="sample")["state"] == "succeeded"
    for file in bad_files(tmp_path):
        assert guarded.checked(file)["state"] in {"rejected", "ready"}
        guarded.curl(f"/v1/map/?reference={REFERENCE}", "-T", str(file))
        guarded.curl("/v1/queries/?sha256=" + "0" * 64, "-T", str(file))
        guarded.curl(f"/v1/query/{file.name}", "-T", str(file))
        guarded.curl("/v1/queries", "-F", f"file=@{file}", "-F", f"layer={CANARY}")
    asked = [
        {"batch_key": "barcode"},
        {"batch_key": f"{CANARY}-column"},
        {"condition_key": "cell_type", "control_values": [f"{CANARY}-none"]},
        {"cell_filter": {"column": "cell_type", "in": [f"{CANARY}-none"]}},
        {
            "cell_filter": [
                {"column": "cell_type", "in": [f"{CANARY}-type-0"]},
                {"column": "barcode", "in": [f"{CANARY}-bc-1"]},
            ]
        },
    ]
    ends = []
    for request in asked:
        answer = guarded.ask(query["id"], **request)
        ends.append(answer.status)
        if answer.status == 202:
            ends[-1] = guarded.finished(answer.json["id"])["state"]
    assert ends == ["failed", 422, 422, 422, "failed"]
    build = json.dumps({"query": query["id"], "name": "other", "labels_keys": ["batch"]})
    guarded.curl("/v1/references", *JSON, "-d", build)
    queries = guarded.get("/v1/queries?limit=200")["items"]
    deadline = time.monotonic() + 60
    while any(not each["terminal"] for each in guarded.get("/v1/mappings?limit=200")["items"]):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert all(CANARY in each["filename"] for each in queries)

    log = (guarded.data_dir / "log").read_text(errors="replace")
    assert "PUT /v1/queries/{filename}" in log
    assert [line for line in log.splitlines() if CANARY in line] == []
    metrics = guarded.curl("/metrics")
    assert CANARY not in metrics.body.decode()

    own = guarded.key
    guarded.key = cellgraft(guarded.data_dir, "keys", "create", "k", "--owner", "theirs").strip()
    paths = ["/v1/queries", "/v1/mappings", f"/v1/queries/{query['id']}", "/v1/service-info"]
    paths += ["/v1/events", "/v1/references", f"/v1/references/{REFERENCE}"]
    for path in paths:
        assert CANARY not in guarded.curl(path).body.decode(), path
    guarded.key = own


def test_what_is_not_to_be_kept_is_not(guarded: Serving, tmp_path: Path) -> None:
    file = write(tmp_path / "private.h5ad", canaries(100))
    secret = b"zqcanary-bc-17"
    query = guarded.checked(file, "?obs_policy=needed&batch_key=sample&labels_key=cell_type")
    assert (query["state"], query["keeps_upload"]) == ("ready", False)
    assert "barcode" in query["inspection"]["dropped"]["obs_policy"]
    stored = guarded.data_dir / "store" / "queries" / query["id"]
    deadline = time.monotonic() + 30
    while list(stored.glob("*.h5ad")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    files = [path for path in stored.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if secret in path.read_bytes()] == []
    mapping = guarded.map(query["id"], batch_key="sample")
    assert mapping["state"] == "succeeded"
    assert guarded.ask(query["id"], batch_key="barcode").json["type"] == "unknown-batch-column"
    assert "agree" in cellgraft(guarded.data_dir, "fsck")


def test_chosen_cells_over_http(guarded: Serving, tmp_path: Path) -> None:
    """From the command, through the service: the same latents as uploading only those cells."""
    whole = cells(200, ["S1", "S2", "S3"], seed=5)
    file = write(tmp_path / "whole.h5ad", whole)
    kept = (whole.obs["sample"] != "S2").to_numpy()
    only = guarded.checked(write(tmp_path / "only.h5ad", whole[kept].copy()))
    alone = guarded.map(only["id"], batch_key="sample")
    clause = json.dumps({"column": "sample", "not_in": ["S2"]})
    options = ["--reference", REFERENCE, "--batch-key", "sample", "--cell-filter", clause]
    options += ["--condition-key", "cell_type", "--control-value", "type 0", "--sample-key"]
    options += ["sample", "--obs-policy", "needed", "--api-key", guarded.key or ""]
    out = tmp_path / "out"
    cellgraft(tmp_path, "map", str(file), "--server", guarded.url, "--out", str(out), *options)
    assert (out / "latent.npy").read_bytes() == guarded.result(alone["id"], "latent.npy")
    told = json.loads((out / "provenance.json").read_text())
    assert told["cell_filter"]["n_kept"] == kept.sum()
    assert told["design"]["control_values"] == ["type 0"]
