"""What a round starts from: PostgreSQL and Redis, a reference, files to upload."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from app.database import Database
from app.storage import LocalStorage
from tests.app.factories import built
from tests.e2e.cells import GENES, cells, write
from tests.postgresql import Databases, find_programs

from .clients import REFERENCE, Work
from .services import CELLGRAFT, Postgres, Redis, Service, distributed, embedded

STUB_FILES, STUB_CELLS = 4, 30
REAL_FILES, REAL_CELLS = 2, 600
BUILD = ("--batch-key", "sample", "--labels-key", "cell_type", "--max-epochs", "5")
BUILD += ("--set", "n_hidden=32", "--set", "n_latent=4")
STUB_RESULTS = ("latent.npy", "latent.parquet", "query_weights.safetensors")
REAL_RESULTS = (*STUB_RESULTS, "latent.csv", "query.h5ad")
"""The provenance and the report tell when and by which attempt they were made."""


@contextmanager
def opened(folder: Path, *, mode: str, real: bool) -> Iterator[Service]:
    """A service that nothing runs of yet, but for its servers; all of it is gone afterwards."""
    data_dir = folder / "data"
    data_dir.mkdir(parents=True)
    with ExitStack() as stack:
        service = _embedded(data_dir, real) if mode == "embedded" else None
        if service is None:
            service = _distributed(stack, data_dir, folder, real)
        stack.callback(service.close)
        yield service


def missing_programs() -> list[str]:
    """What a round in the distributed mode needs and this machine lacks."""
    found = {"PostgreSQL": find_programs(), "redis-server": shutil.which("redis-server")}
    return [name for name, path in found.items() if path is None]


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
        LocalStorage(service.data_dir / "store"),
        name=REFERENCE,
        architecture={"n_genes": GENES},
        genes={"ids": [f"Gene{number}" for number in range(GENES)]},
        expected_expression=[1 / GENES] * GENES,
    )
    database.close()


def work(folder: Path, *, real: bool) -> Work:
    """The files are the same in every round."""
    number, size = (REAL_FILES, REAL_CELLS) if real else (STUB_FILES, STUB_CELLS)
    files = [
        write(folder / f"{seed}.h5ad", cells(size, ["S1"], seed=seed)) for seed in range(number)
    ]
    if real:
        return Work(files, ["scvi-tools", "forward"], REAL_RESULTS)
    return Work(files, ["default", "forward"], STUB_RESULTS)


def _embedded(data_dir: Path, real: bool) -> Service:
    return embedded(data_dir, stub=not real)


def _distributed(stack: ExitStack, data_dir: Path, folder: Path, real: bool) -> Service:
    programs, redis_program = find_programs(), shutil.which("redis-server")
    assert programs is not None
    assert redis_program is not None
    postgres = Postgres(programs, _home(stack), ())
    postgres.start()
    stack.callback(postgres.stop)
    redis = Redis(redis_program, folder)
    redis.start()
    stack.callback(redis.kill)
    databases = Databases(postgres.url)
    url = databases.url_of(databases.create())
    return distributed(data_dir, url, postgres, redis, workers=2 if real else 3, stub=not real)


def _home(stack: ExitStack) -> Path:
    """A folder that PostgreSQL may enter, which refuses to run as root."""
    home = Path(tempfile.mkdtemp(prefix="cellgraft-chaos-"))
    stack.callback(shutil.rmtree, home)
    if os.geteuid() == 0:
        shutil.chown(home, "postgres", "postgres")
    return home
