"""What is made of kept slices, in whatever order they were kept."""

from __future__ import annotations

from typing import Any

import pytest

from bench.accuracy_summary import summary

WAYS = ("forward", "default", "converged", "200 epochs", "early stopping")


def figures(macro_f1: float) -> dict[str, Any]:
    return {"macro_f1": macro_f1, "wrong": 1, "of": 10}


def ways(default: float) -> dict[str, Any]:
    return {way: figures(default if way == "default" else 0.5) for way in WAYS}


def itself(best: float) -> dict[str, Any]:
    return {"200 epochs": figures(0.1), "early stopping": figures(best)}


def test_seeds_are_paired_by_their_numbers() -> None:
    found = summary(
        {
            "set, 1, ways": ways(0.9),
            "set, 0, ways": ways(0.7),
            "set, 2, ways": ways(0.8),
            "set, 0, scvi-tools itself": itself(0.6),
            "set, 2, scvi-tools itself": itself(0.7),
            "set, 1, scvi-tools itself": itself(0.8),
        }
    )["labels"]["set"]
    assert found["best_of_scvi_tools"] == "early stopping"
    assert found["differences"] == pytest.approx([0.1, 0.1, 0.1])
    assert found["passes"]


def test_what_was_stepped_stands_where_scvi_tools_did_not_run() -> None:
    slices = {
        "set, 0, ways": ways(0.7),
        "set, 1, ways": ways(0.7),
        "set, 1, scvi-tools itself": itself(0.9),
    }
    assert summary(slices)["labels"]["set"]["differences"] == pytest.approx([0.2, -0.2])


def test_parts_without_the_ways_of_their_set_wait_for_them() -> None:
    alone = summary({"a, 0, together": {"response": 1.0}, "b, 0, scvi-tools itself": itself(0.9)})
    assert alone["response"] == {}
    assert alone["scvi_tools_itself"] == {}
