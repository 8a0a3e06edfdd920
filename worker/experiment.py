"""The design of an experiment as obs tells it: samples, conditions, and which are controls."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from app.cell_filters import names_of
from app.problems import UnknownControlValue, UnknownDesignColumn
from worker.confounding import CONFOUNDING_FIX, confounding_told, find_confounding
from worker.obs import category_names, find_column, listed

MOST_TOLD = 200
"""Samples or conditions whose numbers of cells are told one by one."""


@dataclass(frozen=True)
class Experiment:
    """What a mapping tells of its samples and conditions, and what to doubt of them."""

    facts: dict[str, Any]
    warnings: tuple[dict[str, str], ...] = ()


@dataclass(frozen=True)
class DesignKeys:
    """The obs columns that describe the experiment, as the caller named them."""

    sample: str | None = None
    condition: str | None = None
    controls: tuple[str, ...] = ()
    """Values of the condition column that are no treatment."""

    @classmethod
    def of(cls, options: dict[str, Any]) -> DesignKeys:
        return cls(
            sample=options.get("sample_key"),
            condition=options.get("condition_key"),
            controls=tuple(options.get("control_values") or ()),
        )


def read_experiment(
    obs: pd.DataFrame,
    keys: DesignKeys,
    *,
    batch: pd.Series,
    batch_key: Sequence[str],
    known: Collection[str],
) -> Experiment:
    """Find the columns and look at them beside the batches.

    Args:
        batch: of every cell, by name; its columns are `batch_key`.
        known: batches whose weights are the reference's own.

    Raises:
        UnknownDesignColumn: a column that obs lacks.
        UnknownControlValue: no cell has any of the control values.
    """
    facts: dict[str, Any] = {}
    warnings: list[dict[str, str]] = []
    for kind, key in (("sample", keys.sample), ("condition", keys.condition)):
        if key is not None:
            column = _column(obs, key, kind)
            facts[f"{kind}_key"] = key
            facts[f"{kind}s"] = _counted(column)
            warnings += _missing(column, key, kind)
    if keys.condition is not None:
        condition = category_names(obs[keys.condition]).where(obs[keys.condition].notna(), None)
        told, doubts = _controls(condition, keys)
        facts |= told
        warnings += doubts
        warnings += _confounded(batch, condition, keys.condition, batch_key, known)
    return Experiment(facts, tuple(warnings))


def _column(obs: pd.DataFrame, key: str, kind: str) -> pd.Series:
    fix = f"Name one of these columns as {kind}_key, or leave it out."
    return find_column(obs, key, UnknownDesignColumn, fix=fix)


def _counted(column: pd.Series) -> dict[str, Any]:
    sizes = category_names(column[column.notna()]).value_counts().sort_index()
    facts: dict[str, Any] = {"n_values": len(sizes), "n_missing": int(column.isna().sum())}
    if len(sizes) <= MOST_TOLD:
        facts["cells"] = {str(name): int(n) for name, n in sizes.items()}
    return facts


def _missing(column: pd.Series, key: str, kind: str) -> list[dict[str, str]]:
    absent = int(column.isna().sum())
    if not absent:
        return []
    return [
        {
            "code": f"missing-{kind}",
            "detail": f"{absent:,} cells have no value in obs[{key!r}]; they belong to no {kind}.",
            "fix": f"Fill in the {kind} of these cells if it is known.",
        }
    ]


def _controls(
    condition: pd.Series, keys: DesignKeys
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    if not keys.controls:
        return {}, []
    wanted, present = names_of(list(keys.controls)), set(condition.dropna().unique())
    absent = sorted(wanted - present)
    if not wanted & present:
        raise UnknownControlValue(
            f"No cell has {listed(absent)} in obs[{keys.condition!r}]. Its values: "
            f"{listed(sorted(present))}.",
            fix="Name values of this column as control_values, as they are written in the file.",
            errors=[
                {"pointer": f"/obs/{keys.condition}", "detail": "has none of the control values"}
            ],
        )
    facts = {
        "control_values": sorted(wanted & present),
        "n_control_cells": int(condition.isin(wanted).sum()),
    }
    if not absent:
        return facts, []
    return facts, [
        {
            "code": "unknown-control-value",
            "detail": f"No cell has {listed(absent)} in obs[{keys.condition!r}]; the other control "
            "values are there.",
            "fix": f"The column has these values: {listed(sorted(present))}.",
        }
    ]


def _confounded(
    batch: pd.Series,
    condition: pd.Series,
    key: str,
    batch_key: Sequence[str],
    known: Collection[str],
) -> list[dict[str, str]]:
    together = pd.DataFrame({"batch": batch, "condition": condition}).drop_duplicates()
    pairs = zip(together["batch"], together["condition"], strict=True)
    found = find_confounding(pairs, known=known)
    if found is None:
        return []
    shown = " and ".join(f"obs[{each!r}]" for each in batch_key)
    names = listed(found.conditions, most=5)
    detail = confounding_told(found, batch=shown, condition=f"obs[{key!r}]", names=names)
    return [{"code": "batch-confounded", "detail": detail, "fix": CONFOUNDING_FIX}]
