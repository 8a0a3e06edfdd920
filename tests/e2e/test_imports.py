"""A model that scvi-tools saved becomes a reference that a running service maps onto."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from tests.e2e.service import Serving, cellgraft, serving
from tests.worker.imports.files import write_counts, write_minified
from tests.worker.imports.saves import GENES, Model, some_cells, write

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
MODELS = {
    "seeing": Model(),
    "blind": Model(encode_covariates=False, batch_norm=True, layer_norm=False),
    "labelled": Model(scanvi=True),
}


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with three references: with counts, without cells, and minified."""
    folder = tmp_path_factory.mktemp("imported")
    data_dir = folder / "data"
    for name, model in MODELS.items():
        write(folder / name, model, "1.3.3")
    counts = write_counts(folder / "c.h5ad", MODELS["seeing"], some_cells(MODELS["seeing"]))
    labelled = MODELS["labelled"]
    write_minified(folder / "labelled/adata.h5ad", labelled, some_cells(labelled))
    _import(data_dir, folder / "seeing", "--cells", str(counts), "--labels-key", "fine")
    _import(data_dir, folder / "blind")
    _import(data_dir, folder / "labelled")
    return data_dir


def _import(data_dir: Path, save: Path, *options: str) -> str:
    return cellgraft(data_dir, "references", "import", str(save), "--name", save.name, *options)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where processes of the service say that they listen, and what they unpickled."""
    folder = tmp_path_factory.mktemp("hook")
    shutil.copyfile(ROOT / "tests/e2e/unpickling.py", folder / "sitecustomize.py")
    return folder / "told"


@pytest.fixture(scope="module")
def listened_to(
    imported: Path, told: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serving]:
    data_dir = tmp_path_factory.mktemp("served") / "data"
    shutil.copytree(imported, data_dir)
    before = dict(os.environ)
    os.environ["PYTHONPATH"] = f"{told.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    os.environ["UNPICKLED"] = str(told)
    try:
        with serving(data_dir) as started:
            yield started
    finally:
        os.environ.clear()
        os.environ.update(before)
    assert "agree" in cellgraft(data_dir, "fsck")


@pytest.fixture(scope="module")
def query(listened_to: Serving, tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = np.random.default_rng(8)
    adata = anndata.AnnData(sp.csr_matrix(rng.poisson(2.0, (60, len(GENES))).astype(np.float32)))
    adata.var_names, adata.obs_names = list(GENES), [f"q{i}" for i in range(60)]
    adata.obs["sample"] = ["new 1", "new 2"] * 30
    file = tmp_path_factory.mktemp("query") / "query.h5ad"
    adata.write_h5ad(file)
    checked = listened_to.checked(file)
    assert checked["state"] == "ready", checked["problem"]
    return str(checked["id"])


@pytest.mark.parametrize("name", MODELS)
def test_a_query_maps_onto_an_import(name: str, listened_to: Serving, query: str) -> None:
    mapping = listened_to.map(query, reference=name, batch_key="sample", recipe="converged")
    assert mapping["state"] == "succeeded", mapping["problem"]
    provenance = json.loads(listened_to.result(mapping["id"], "provenance.json"))
    for told in (mapping["summary"], provenance["surgery"]):
        assert told["has_effect"] is MODELS[name].encode_covariates
        assert (told["movement"]["max"] > 0) is MODELS[name].encode_covariates
    for told in (mapping["summary"], provenance):
        codes = [warning["code"] for warning in told["warnings"]]
        assert ("surgery-has-no-effect" in codes) is not MODELS[name].encode_covariates


def test_nothing_was_unpickled_on_the_way(listened_to: Serving, query: str, told: Path) -> None:
    """From the upload to the results: the hook listened in the API, the parent, the zygote ..."""
    mapping = listened_to.map(query, reference="seeing", batch_key="sample")
    assert mapping["state"] == "succeeded", mapping["problem"]
    lines = told.read_text().splitlines()
    listening = [line for line in lines if line.endswith("listens")]
    assert len(listening) >= 4  # supervisor, API, worker, zygote, compute child
    assert lines == listening


def test_the_hook_bites(told: Path, tmp_path: Path) -> None:
    code = "import pickle, collections; pickle.loads(pickle.dumps(collections.OrderedDict(a=1)))"
    path = {"PYTHONPATH": str(told.parent), "UNPICKLED": str(tmp_path / "told")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "something was unpickled" in done.stderr
    assert "OrderedDict" in (tmp_path / "told").read_text()


def test_the_registry_tells_of_cells_where_there_are_some(listened_to: Serving) -> None:
    seeing, blind = (listened_to.get(f"/v1/references/{name}") for name in ("seeing", "blind"))
    assert seeing["links"]["cells"].endswith("/cells.parquet")
    assert "cells" not in blind["links"]
    assert listened_to.curl("/v1/references/seeing/cells.parquet").status == 200
    without = listened_to.curl("/v1/references/blind/cells.parquet")
    assert without.status == 404
    assert "no cells" in without.json["detail"]
    assert blind["description"]["surgery_has_effect"] is False
    assert seeing["description"]["provenance"]["settings"]["scvi_tools_version"] == "1.3.3"


def test_an_import_can_be_verified_and_removed(imported: Path, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    shutil.copytree(imported, data_dir)
    assert "as they were made" in cellgraft(data_dir, "references", "verify", "blind")
    cellgraft(data_dir, "references", "remove", "blind", "1", "--yes")
    assert not list((data_dir / "store/references").glob("blind/*"))
    again = write(tmp_path / "blind", MODELS["blind"], "0.8.1")
    assert "version 2 is ready" in _import(data_dir, again)


def test_a_refused_import_leaves_nothing_behind(tmp_path: Path) -> None:
    data_dir, broken = tmp_path / "data", tmp_path / "broken"
    write(broken, Model(), "1.4.2")
    whole = (broken / "model.pt").read_bytes()
    (broken / "model.pt").write_bytes(whole[: len(whole) // 2])
    command = [sys.executable, "-m", "app.cli", "references", "import", str(broken)]
    done = subprocess.run(
        [*command, "--name", "x", "--data-dir", str(data_dir)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((data_dir / "staging").iterdir()) == []
    assert not list(data_dir.glob("store/references/*"))
    assert "agree" in cellgraft(data_dir, "fsck")


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def calls_of(path: Path) -> set[str]:
    nodes: list[Any] = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    return {ast.unparse(node.func) for node in nodes}


def test_one_module_imports_pickle_and_none_torch_load() -> None:
    sources = [
        path
        for package in ("app", "worker", "models_store")
        for path in (ROOT / package).rglob("*.py")
    ]
    picklers = {"pickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    users = [path.relative_to(ROOT).as_posix() for path in sources if imports_of(path) & picklers]
    assert users == ["worker/imports/pickled.py"]
    assert [path for path in sources if "torch.load" in calls_of(path)] == []
