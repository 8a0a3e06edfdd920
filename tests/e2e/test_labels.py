"""SCANVI from the command line to predicted labels, and the same build by HTTP."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.e2e.cells import cells, write
from tests.e2e.service import cellgraft, serving

pytestmark = pytest.mark.slow
SMALL = {"n_hidden": 32, "n_latent": 4}
COLUMNS = ["label", "probability", "probability_type 0", "probability_type 1"]


def test_labels_are_learnt_and_predicted(tmp_path: Path) -> None:
    file = write(tmp_path / "reference.h5ad", cells(400, ["left", "right"], seed=1))
    query = write(tmp_path / "query.h5ad", cells(120, ["S1", "S2"], seed=2))
    data_dir, by_name = tmp_path / "data", ["--name", "labelled", "--max-epochs", "5"]
    keys = ["--batch-key", "sample", "--labels-key", "cell_type"]
    labels = ["--kind", "SCANVI", "--unlabeled-category", "type 2", "--pretraining"]
    sizes = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
    cellgraft(data_dir, "references", "build", str(file), *by_name, *keys, *labels, *sizes)
    shown = json.loads(cellgraft(data_dir, "references", "show", "labelled"))
    assert (shown["kind"], shown["unlabeled_category"]) == ("scanvi", "type 2")
    assert shown["labels"][0]["categories"] == ["type 0", "type 1"]
    with serving(data_dir) as service:
        checked = service.checked(query)
        # A labels column that the query lacks is a warning here, not an error.
        found = service.map(
            checked["id"], reference="labelled", batch_key="sample", labels_key="annotation"
        )
        assert found["state"] == "succeeded", found["problem"]
        assert [each["code"] for each in found["summary"]["warnings"]] == ["no-labels-column"]
        assert found["summary"]["labels"]["n_unlabelled"] == 120
        table = pd.read_parquet(io.BytesIO(service.result(found["id"], "labels.parquet")))
        csv = pd.read_csv(io.BytesIO(service.result(found["id"], "labels.csv")), index_col="cell")
        assert list(table.columns) == list(csv.columns) == COLUMNS
        assert list(table.index) == list(csv.index)
        assert len(table) == 120
        names = {each["name"]: each["media_type"] for each in found["results"]}
        assert names["labels.csv"] == "text/csv"
        request = {
            "query": service.checked(file)["id"],
            "name": "by-http",
            "kind": "scanvi",
            "batch_key": "sample",
            "labels_key": "cell_type",
            "architecture": SMALL,
            "max_epochs": 1,
        }
        json_type = ["-H", "Content-Type: application/json"]
        sent = ["--data-binary", json.dumps(request)]
        assert service.curl("/v1/references", *json_type, *sent).status == 202
        for _ in range(60):
            body = service.get("/v1/references/by-http")
            if body["terminal"]:
                break
            time.sleep(1)
        assert body["state"] == "ready", body["problem"]
        assert body["description"]["kind"] == "scanvi"
        assert len(body["description"]["labels"][0]["categories"]) == 3
    assert "agree" in cellgraft(data_dir, "fsck")
