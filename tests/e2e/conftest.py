"""A tiny reference, built once by the command, and copies of its data folder to serve from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cells import cells, write
from tests.e2e.service import REFERENCE, Serving, cellgraft, serving


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with one reference."""
    folder = tmp_path_factory.mktemp("built")
    file = write(folder / "reference.h5ad", cells(400, ["left", "right"], seed=1))
    options = ["--batch-key", "sample", "--labels-key", "cell_type", "--max-epochs", "5"]
    options += ["--set", "n_hidden=32", "--set", "n_latent=4"]
    cellgraft(folder / "data", "references", "build", str(file), "--name", REFERENCE, *options)
    return folder / "data"


@pytest.fixture(scope="module")
def service(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    data_dir = tmp_path_factory.mktemp("served") / "data"
    shutil.copytree(built, data_dir)
    with serving(data_dir, max_upload_bytes="20000000") as started:
        yield started
    assert "agree" in cellgraft(data_dir, "fsck")


@pytest.fixture(scope="session")
def query_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two batches of two hundred cells each."""
    path = tmp_path_factory.mktemp("query") / "query.h5ad"
    return write(path, cells(400, ["S1", "S2"], seed=2))
