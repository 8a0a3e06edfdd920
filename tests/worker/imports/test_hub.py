"""hf:// addresses, against a server in the hub's layout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.database import Database
from app.problems import MalformedRequest
from app.tables import ReferenceVersion
from worker.imports.card import licence_of
from worker.imports.hub import fetch

from .files import write_minified
from .hub_server import COMMIT, serve
from .saves import Model, some_cells, write

REPOSITORY = "some-lab/lung-scvi"
CARD = """---
license: cc-by-4.0
library_name: scvi-tools
tags: [model_cls_name:SCVI, "scvi_version:1.2.0"]
---
# Lung
license: mit
"""


@pytest.fixture
def hub_folder(tmp_path: Path) -> Path:
    """A model as scvi-hub keeps it."""
    model = Model()
    folder = write(tmp_path / "hub", model, "1.2.0")
    write_minified(folder / "adata.h5ad", model, some_cells(model))
    (folder / "README.md").write_text(CARD)
    told = {"scvi_version": "1.2.0", "model_cls_name": "SCVI", "training_data_url": None}
    (folder / "_scvi_required_metadata.json").write_text(json.dumps(told))
    (folder / "huge.bin").write_bytes(b"not wanted")
    return folder


def run(data_dir: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app.cli", "references", "import"]
    return subprocess.run(
        [*command, *arguments, "--data-dir", str(data_dir)],
        env={**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1", **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def version(data_dir: Path) -> ReferenceVersion:
    database = Database(f"sqlite:///{data_dir}/cellgraft.db")
    with database.reading() as session:
        found = session.query(ReferenceVersion).one()
        assert found.manifest is not None
    database.close()
    return found


def test_a_model_from_the_hub(hub_folder: Path, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with serve(hub_folder, REPOSITORY) as (address, asked):
        home = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home")}
        done = run(data_dir, f"hf://{REPOSITORY}@main", "--name", "lung", **home)
    assert done.returncode == 0, done.stderr
    assert "40 cells with the latents of `obsm/scvi_latent_qzm`" in done.stdout
    assert not any("huge.bin" in path and "resolve" in path for path in asked)
    found = version(data_dir)
    assert found.manifest is not None
    assert found.manifest["licence"] == "CC-BY-4.0"
    assert found.manifest["provenance"]["source_name"] == f"hf://{REPOSITORY}@{COMMIT}"
    assert found.options["import"] == f"hf://{REPOSITORY}@{COMMIT}"
    assert list((data_dir / "staging").iterdir()) == []


def test_cells_that_nobody_wants_are_not_fetched(hub_folder: Path, tmp_path: Path) -> None:
    with serve(hub_folder, REPOSITORY) as (address, asked):
        home = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home")}
        place = f"hf://{REPOSITORY}"
        done = run(tmp_path / "data", place, "--name", "lung", "--no-cells", **home)
    assert done.returncode == 0, done.stderr
    assert "No cells came with it" in done.stdout
    assert any("resolve" in path and path.endswith("model.pt") for path in asked)
    assert not any("adata.h5ad" in path for path in asked)


def test_a_model_that_the_hub_does_not_have(hub_folder: Path, tmp_path: Path) -> None:
    with serve(hub_folder, REPOSITORY) as (address, _):
        home = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home")}
        done = run(tmp_path / "data", "hf://some-lab/nothing", "--name", "lung", **home)
    assert done.returncode == 1
    assert "cannot be fetched" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_hub_that_does_not_answer(tmp_path: Path) -> None:
    home = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "home")}
    done = run(tmp_path / "data", f"hf://{REPOSITORY}", "--name", "lung", **home)
    assert done.returncode == 1
    assert "cannot be fetched" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_of_a_hub_needs_no_network(hub_folder: Path, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    offline = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
    done = run(data_dir, str(hub_folder), "--name", "lung", "--licence", "MIT", **offline)
    assert done.returncode == 0, done.stderr
    found = version(data_dir)
    assert found.manifest is not None
    assert found.manifest["licence"] == "MIT"


def test_names_in_a_save_cannot_steer_the_terminal(tmp_path: Path) -> None:
    folder = write(tmp_path / "save", Model(batches=("left\x1b[2J\x07", "right")), "1.4.2")
    done = run(tmp_path / "data", str(folder), "--name", "lung")
    assert done.returncode == 0, done.stderr
    assert "left\ufffd[2J\ufffd, right" in done.stdout
    assert not set(done.stdout) & {"\x1b", "\x07"}


def test_without_the_client_of_the_hub_a_sentence_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MalformedRequest, match="not installed") as caught:
        fetch(f"hf://{REPOSITORY}", tmp_path)
    assert "cellgraft[hub]" in caught.value.fix


@pytest.mark.parametrize(
    "address", ["hf://", "hf://lung", "hf://a/b/c", "hf://a/b@", "hf://../b c"]
)
def test_what_is_no_address(address: str, tmp_path: Path) -> None:
    with pytest.raises(MalformedRequest, match="no address"):
        fetch(address, tmp_path)


def test_licences_of_cards(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    for header, licence in {
        "license: cc-by-4.0": "CC-BY-4.0",
        'license: "mit"': "MIT",
        "license: apache-2.0": "Apache-2.0",
        "license: other": None,
        "tags: []": None,
    }.items():
        card.write_text(f"---\n{header}\n---\nlicense: wrong\n")
        assert licence_of(card) == licence
    card.write_text("license: mit\n")
    assert licence_of(card) is None
    assert licence_of(None) is None
