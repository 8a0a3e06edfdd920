"""Which reference? The command against a real service with references of two tissues."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from anndata import AnnData

from tests.e2e.cells import write
from tests.e2e.service import cellgraft, serving
from tests.worker.engine.tissues import joined, tissue

pytestmark = pytest.mark.slow
SIZES = ("--set", "n_hidden=32", "--set", "n_latent=4", "--max-epochs", "60")


def h5ad(path: Path, name: str, *seeds: int) -> Path:
    cells = joined(*(tissue(name, 300, seed=seed) for seed in seeds))
    adata = AnnData(cells.counts, obs=cells.obs)
    adata.var_names = [f"Gene{number}" for number in range(adata.n_vars)]
    return write(path, adata)


def test_a_query_is_ranked_and_its_mapping_on_the_wrong_tissue_warns(tmp_path: Path) -> None:
    for name in ("lung", "pancreas"):
        file = h5ad(tmp_path / f"{name}.h5ad", name, 1, 2, 3)
        options = ["--name", name, "--batch-key", "batch", *SIZES]
        cellgraft(tmp_path / "data", "references", "build", str(file), *options)
    query = h5ad(tmp_path / "query.h5ad", "lung", 7)
    with serving(tmp_path / "data") as service:
        line = [sys.executable, "-m", "app.cli", "rank", str(query), "--server", service.url]
        environment = {**os.environ, "COLUMNS": "200"}
        told = subprocess.run(
            line, capture_output=True, text=True, check=True, timeout=120, env=environment
        ).stdout
        uploaded, _, lung, pancreas = (row.strip() for row in told.strip().splitlines())
        assert lung.startswith("lung@1")
        assert lung.endswith("It explains these cells well.")
        assert pancreas.startswith("pancreas@1")
        assert "another tissue" in pancreas
        query_id = uploaded.removeprefix("Query ")
        assert service.curl(f"/v1/queries/{query_id}/ranking").status == 200
        mappings = {
            name: service.map(query_id, reference=name, batch_key="batch")
            for name in ("lung", "pancreas")
        }
        codes = {
            name: [each["code"] for each in mapping["summary"]["warnings"]]
            for name, mapping in mappings.items()
        }
        assert codes == {"lung": [], "pancreas": ["poorly-explained"]}
        assert mappings["lung"]["summary"]["explained"]["explained"] > 0.6
