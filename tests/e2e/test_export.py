"""`cellgraft mappings export`: from a mapping by curl to a model that scvi-tools loads."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.service import CELLGRAFT, Serving, cellgraft, environment


@pytest.mark.filterwarnings("ignore")
def test_a_mapping_becomes_a_model_of_scvi_tools(
    service: Serving, query_file: Path, tmp_path: Path
) -> None:
    import scvi

    mapping = service.map(service.checked(query_file)["id"], batch_key="sample")
    out = tmp_path / "model"
    command = ["mappings", "export", mapping["id"], str(out), "--format", "scvi-tools"]
    told = cellgraft(service.data_dir, *command)
    assert f"scvi.model.SCVI.load({str(out)!r})" in told
    theirs = scvi.model.SCVI.load(str(out), accelerator="cpu").get_latent_representation()
    mine = np.load(io.BytesIO(service.result(mapping["id"], "latent.npy")))
    assert np.abs(theirs - mine).max() <= 1e-5 * np.abs(mine).max()
    assert "exists already" in cellgraft_refuses(service, *command)


def cellgraft_refuses(service: Serving, *command: str) -> str:
    """What the command says when it is refused."""
    done = subprocess.run(
        [*CELLGRAFT, *command],
        env=environment(service.data_dir),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr


def test_an_unknown_mapping_is_told_in_a_sentence(service: Serving, tmp_path: Path) -> None:
    out = tmp_path / "model"
    told = cellgraft_refuses(service, "mappings", "export", "nonsense", str(out))
    assert "There is no mapping 'nonsense'." in told
    assert not out.exists()


def test_a_folder_that_cannot_be_made_is_told_in_a_sentence(
    service: Serving, query_file: Path, tmp_path: Path
) -> None:
    mapping = service.map(service.checked(query_file)["id"], batch_key="sample", recipe="forward")
    (tmp_path / "file").touch()
    out = str(tmp_path / "file" / "model")
    told = cellgraft_refuses(service, "mappings", "export", mapping["id"], out)
    assert "cannot be made" in told
    assert "Traceback" not in told
