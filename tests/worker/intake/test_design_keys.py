"""Keys that come with an upload are looked at in its report, and never refuse the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from app.problems import NotCounts
from tests.worker.intake.conftest import Checked

Check = Callable[..., Checked]
N = 120


def design_file(path: Path, **columns: Any) -> Path:
    obs = pd.DataFrame(
        {
            "batch": pd.Categorical(["b1", "b2", "b3"] * (N // 3)),
            "plate": pd.array([1, 2, None] * (N // 3), dtype="Int64"),
            "condition": ["ctrl", "stim", "ctrl"] * (N // 3),
            "mixed": ["ctrl"] * (N // 2) + ["stim"] * (N // 2),
            "sample": [1.0, np.nan] * (N // 2),
            "barcode": [f"bc{i}" for i in range(N)],
            "few": ["x"] * (N - 3) + ["tiny"] * 3,
            **columns,
        },
        index=[f"cell{i}" for i in range(N)],
    )
    counts = np.random.default_rng(0).poisson(2, (N, 20)).astype(np.float32) + 1
    var = pd.DataFrame(index=[f"GENE{i}" for i in range(20)])
    anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=var).write_h5ad(path)
    return path


@pytest.fixture
def told(check: Check, tmp_path: Path) -> Callable[..., dict[str, dict[str, str]]]:
    def look(**options: Any) -> dict[str, dict[str, str]]:
        report, _ = check(design_file(tmp_path / "query.h5ad"), options=options)
        assert {each["severity"] for each in report["problems"]} <= {"warning"}
        return {each["code"]: each for each in report["problems"]}

    return look


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_key": ["batch"]},
        {"batch_key": ["batch"], "condition_key": "mixed", "control_values": ["ctrl"]},
        {"condition_key": "condition"},  # without batches there is nothing to confuse it with
        {"labels_key": "condition", "size_factor_key": "sample"},
    ],
)
def test_a_sound_design_is_not_warned_of(
    told: Callable[..., dict[str, Any]], options: dict[str, Any]
) -> None:
    assert told(**options) == {}


@pytest.mark.parametrize(
    ("options", "code", "pointer", "said"),
    [
        ({"batch_key": ["btach"]}, "unknown-column", "/obs/btach", "batch, plate, condition"),
        ({"batch_key": ["batch", "x"]}, "unknown-column", "/obs/x", "batch_key names 'x'"),
        ({"sample_key": "smple"}, "unknown-column", "/obs/smple", "sample_key names"),
        ({"condition_key": "cond"}, "unknown-column", "/obs/cond", "condition_key names"),
        ({"labels_key": "label"}, "unknown-column", "/obs/label", "labels_key names"),
        ({"size_factor_key": "sf"}, "unknown-column", "/obs/sf", "size_factor_key names"),
        ({"batch_key": ["plate"]}, "missing-batch", "/obs/plate", "40 cells"),
        ({"batch_key": ["batch", "plate"]}, "missing-batch", "/obs/batch", "40 cells"),
        ({"sample_key": "sample"}, "missing-sample", "/obs/sample", "60 cells"),
        ({"condition_key": "sample"}, "missing-condition", "/obs/sample", "60 cells"),
        ({"batch_key": ["few"]}, "small-batches", "/obs/few", "1 of 2 .*: tiny (3)"),
        ({"batch_key": ["barcode"]}, "too-many-batches", "/obs/barcode", "120 categories"),
        (
            {"batch_key": ["batch"], "condition_key": "condition"},
            "batch-confounded",
            "/obs/condition",
            "Each batch of obs['batch'] has one value of obs['condition'] only",
        ),
        (
            {"condition_key": "mixed", "control_values": ["ctrl", "none"]},
            "unknown-control-value",
            "/obs/mixed",
            "No cell has none in obs['mixed']. Its values: ctrl, stim",
        ),
    ],
)
def test_what_is_told_of_a_design(
    told: Callable[..., dict[str, Any]],
    options: dict[str, Any],
    code: str,
    pointer: str,
    said: str,
) -> None:
    found = told(**options)
    assert list(found) == [code]
    assert found[code]["pointer"] == pointer
    first, _, second = said.partition(".*")
    assert first.strip() in found[code]["detail"]
    assert second.strip() in found[code]["detail"]
    assert found[code]["fix"]


def test_several_things_are_told_at_once(told: Callable[..., dict[str, Any]]) -> None:
    found = told(batch_key=["plate"], condition_key="none", sample_key="sample", labels_key="no")
    assert set(found) == {"missing-batch", "missing-sample", "unknown-column"}


def test_numbers_are_named_as_a_mapping_names_them(check: Check, tmp_path: Path) -> None:
    dose = [0.0, 0.0, 2.5] * (N // 3)
    path = design_file(tmp_path / "query.h5ad", dose=dose)
    options = {"condition_key": "dose", "control_values": ["0"]}
    report, _ = check(path, options=options)
    assert report["problems"] == []


def test_a_design_of_a_refused_file_is_told_as_well(
    sandboxed: Callable[..., Any], tmp_path: Path
) -> None:
    path = design_file(tmp_path / "query.h5ad")
    adata = anndata.read_h5ad(path)
    adata.X = adata.X * 0.5
    adata.write_h5ad(path)
    with pytest.raises(NotCounts) as caught:
        sandboxed(path, batch_key=["none"])
    assert caught.value.inspection is not None
    codes = {each["code"] for each in caught.value.inspection["problems"]}
    assert codes == {"truncated-values", "unknown-column"}


def test_columns_are_chosen_inside_the_sandbox(
    sandboxed: Callable[..., Any], tmp_path: Path
) -> None:
    path = design_file(tmp_path / "query.h5ad")
    report = sandboxed(path, batch_key=["batch"], obs_policy="needed")
    assert [column["name"] for column in report["columns"]] == ["batch"]
    assert b"bc17" not in (tmp_path / "canonical/obs.arrow").read_bytes()
