"""What a round starts from: a reference, and files to upload."""

from __future__ import annotations

import subprocess
from pathlib import Path

from app.database import Database
from tests.app.factories import built
from tests.e2e.cells import GENES, cells, write

from .clients import REFERENCE, Work
from .services import CELLGRAFT, Service

STUB_CELLS = (30, 30, 30, 2500)
"""Of each file. The last one is read in shards where there are several workers."""
REAL_CELLS = (600, 600)
BUILD = ("--batch-key", "sample", "--labels-key", "cell_type", "--max-epochs", "5")
BUILD += ("--set", "n_hidden=32", "--set", "n_latent=4")
STUB_RESULTS = ("latent.npy", "latent.parquet", "query_weights.safetensors")
REAL_RESULTS = (*STUB_RESULTS, "latent.csv", "query.h5ad")
"""The provenance and the report tell when and by which attempt they were made."""


def register(service: Service, folder: Path, *, real: bool) -> None:
    """The reference that all mappings are on."""
    if real:
        file = write(folder / "reference.h5ad", cells(400, ["left", "right"], seed=1))
        line = [*CELLGRAFT, "references", "build", str(file), "--name", REFERENCE, *BUILD]
        environment = service.commands[0].environment
        with (folder / "build.log").open("wb") as log:
            subprocess.run(line, env=environment, stdout=log, stderr=log, check=True, timeout=300)
        return
    database = Database(service.database_url)
    database.migrate()
    built(
        database,
        service.storage(),
        name=REFERENCE,
        architecture={"n_genes": GENES},
        genes={"ids": [f"Gene{number}" for number in range(GENES)]},
        expected_expression=[1 / GENES] * GENES,
    )
    database.close()


def work(folder: Path, *, real: bool) -> Work:
    """The files are the same in every round."""
    files = [
        write(folder / f"{seed}.h5ad", cells(size, ["S1"], seed=seed))
        for seed, size in enumerate(REAL_CELLS if real else STUB_CELLS)
    ]
    if real:
        return Work(files, ["scvi-tools", "forward"], REAL_RESULTS)
    return Work(files, ["default", "forward"], STUB_RESULTS)
