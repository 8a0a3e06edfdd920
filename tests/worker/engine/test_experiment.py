"""Samples, conditions and controls of a query, and batches that say the condition."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from app.problems import Problem, UnknownControlValue, UnknownDesignColumn
from tests.worker.engine.simulated import Reference, nothing, simulate
from tests.worker.engine.test_mapping import order
from worker.confounding import find_confounding
from worker.covariates import QueryDesign, design_query
from worker.experiment import DesignKeys
from worker.mapping import run_mapping
from worker.reference_cache import ReferenceCache


@pytest.mark.parametrize(
    ("pairs", "conditions", "complete"),
    [
        ("a1 b2", "12", True),
        ("a1 b1 c2", "12", True),
        ("a1 a2 b3", "3", False),
        ("a1 a2 b1 c3 d3", "3", False),
        ("a1 a2 b1 b2", "", False),
        ("a1 b1 b2", "", False),  # 2 is only in b, but b has 1 as well
        ("a1 a2", "", False),
        ("a1 b1", "", False),
        ("a1 b- b1", "", False),
        ("a1 b- c2", "12", True),
        ("", "", False),
    ],
)
def test_when_batches_say_the_condition(pairs: str, conditions: str, complete: bool) -> None:
    told = [(each[0], None if each[1] == "-" else each[1]) for each in pairs.split()]
    found = find_confounding(told)
    assert (found.conditions if found else ()) == tuple(conditions)
    assert found is None or found.is_complete == complete


def test_weights_of_the_reference_absorb_nothing() -> None:
    pairs = [("a", "1"), ("b", "2")]
    assert find_confounding(pairs, known={"a", "b"}) is None
    found = find_confounding(pairs, known={"a"})
    assert found is not None
    assert (found.conditions, found.batches) == (("2",), ("b",))


def designed(reference: Reference, obs: pd.DataFrame, **keys: object) -> QueryDesign:
    design = DesignKeys(**keys)  # type: ignore[arg-type]
    return design_query(obs, reference.manifest, batch_key=["b"], design=design)


def test_samples_conditions_and_controls_are_told(recommended: Reference) -> None:
    obs = pd.DataFrame({"b": ["x", "y"] * 30, "s": [1, 2, 3] * 20, "c": ["ctrl", "ctrl", "t"] * 20})
    design = designed(recommended, obs, sample="s", condition="c", controls=("ctrl",))
    assert design.warnings == ()
    assert design.experiment.facts == {
        "sample_key": "s",
        "samples": {"n_values": 3, "n_missing": 0, "cells": {"1": 20, "2": 20, "3": 20}},
        "condition_key": "c",
        "conditions": {"n_values": 2, "n_missing": 0, "cells": {"ctrl": 40, "t": 20}},
        "control_values": ["ctrl"],
        "n_control_cells": 40,
    }


def test_doubts_of_a_design_are_told(recommended: Reference) -> None:
    obs = pd.DataFrame(
        {"b": ["x"] * 30 + ["y"] * 30, "s": [None] + ["s"] * 59, "c": ["t"] * 30 + ["u"] * 30}
    )
    obs.loc[59, "c"] = None
    design = designed(recommended, obs, sample="s", condition="c", controls=("t", "none"))
    warnings = {each["code"]: each["detail"] for each in design.warnings}
    assert list(warnings) == [
        "missing-sample",
        "missing-condition",
        "unknown-control-value",
        "batch-confounded",
    ]
    assert "Each batch of obs['b'] has one value of obs['c'] only" in warnings["batch-confounded"]
    assert "absorb" in warnings["batch-confounded"]
    assert design.experiment.facts["n_control_cells"] == 30
    obs["c"] = ["t"] * 15 + ["u"] * 15 + ["v"] * 30
    (warning,) = designed(recommended, obs, condition="c").warnings
    assert "1 of 3 values of obs['c'] (v)" in warning["detail"]


def test_numbers_are_control_values_by_name(recommended: Reference) -> None:
    obs = pd.DataFrame({"b": ["x"] * 4, "dose": [0.0, 0.0, 2.5, 10.0]})
    facts = designed(recommended, obs, condition="dose", controls=("0",)).experiment.facts
    assert (facts["control_values"], facts["n_control_cells"]) == (["0"], 2)


@pytest.mark.parametrize(
    ("keys", "kind", "said"),
    [
        ({"sample": "none"}, UnknownDesignColumn, "It has: b, c"),
        ({"condition": "none"}, UnknownDesignColumn, "It has: b, c"),
        ({"condition": "c", "controls": ("none",)}, UnknownControlValue, "Its values: t"),
    ],
)
def test_a_design_that_the_query_does_not_have(
    recommended: Reference, keys: dict[str, object], kind: type[Problem], said: str
) -> None:
    with pytest.raises(kind, match=said) as caught:
        designed(recommended, pd.DataFrame({"b": ["x"], "c": ["t"]}), **keys)
    assert caught.value.errors[0]["pointer"].startswith("/obs/")


def test_a_mapping_tells_its_design(recommended: Reference, tmp_path: Path) -> None:
    cells = simulate({"c": 60, "d": 50}, seed=3)
    options = {"sample_key": "plate", "condition_key": "batch", "control_values": ["d"]}
    ordered = order(recommended, tmp_path, cells, **options)
    told = run_mapping(ordered, ReferenceCache(), nothing)
    assert told["design"]["n_control_cells"] == 50
    assert [warning["code"] for warning in told["warnings"]] == ["batch-confounded"]
