"""The checker passes what is sound, and catches each kind of violation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from .checker import Findings, FoundMapping, FoundQuery, FoundRanking, FoundShard, violations

RESULTS = {"latent.npy": "d1", "latent.csv": "d2"}
QUERY = FoundQuery("ready", "abc", "abc", ("check.succeeded",))
MAPPING = FoundMapping("k1", "succeeded", ("map.succeeded",), 1, RESULTS, RESULTS)
CANCELLED = FoundMapping("k2", "cancelled", ("map.cancelled",), 0, {}, {})
HISTORY: list[dict[str, Any]] = [
    {"kind": "undisturbed", "content": "a", "recipe": "default", "results": RESULTS},
    {"kind": "uploaded", "query": "q1", "sha256": "abc"},
    {"kind": "submitted", "mapping": "m1", "key": "k1", "content": "a", "recipe": "default"},
    {"kind": "submitted", "mapping": "m2", "key": "k2", "content": "a", "recipe": "default"},
    {"kind": "killed", "target": "api"},
    {"kind": "seen", "mapping": "m1", "state": "succeeded", "results": RESULTS},
    {"kind": "cancel asked", "mapping": "m2"},
    {"kind": "ranking asked", "ranking": "r1"},
]
SHARD = FoundShard("m1", "succeeded", ("shard.succeeded",))
UNWANTED = FoundShard("m2", "cancelled", ("shard.cancelled",))
RANKING = FoundRanking("succeeded", ("rank.succeeded",), 1)
SOUND = Findings(
    {"q1": QUERY},
    {"m1": MAPPING, "m2": CANCELLED},
    shards={"s1": SHARD, "s2": UNWANTED},
    rankings={"r1": RANKING},
)


def kinds(findings: Findings, *more: dict[str, Any]) -> set[str]:
    return {violation.kind for violation in violations([*HISTORY, *more], findings)}


def query(**changes: Any) -> Findings:
    return replace(SOUND, queries={"q1": replace(QUERY, **changes)})


def mapping(**changes: Any) -> Findings:
    return replace(SOUND, mappings={**SOUND.mappings, "m1": replace(MAPPING, **changes)})


def shard(**changes: Any) -> Findings:
    return replace(SOUND, shards={**SOUND.shards, "s1": replace(SHARD, **changes)})


def ranking(**changes: Any) -> Findings:
    return replace(SOUND, rankings={"r1": replace(RANKING, **changes)})


def test_what_is_sound_passes() -> None:
    assert violations(HISTORY, SOUND) == []


def test_what_nobody_was_told_of_may_be_there() -> None:
    """An answer that was lost on its way: the work is done all the same."""
    more = replace(MAPPING, key="k3")
    queries, mappings = {**SOUND.queries, "q2": QUERY}, {**SOUND.mappings, "m3": more}
    assert violations(HISTORY, replace(SOUND, queries=queries, mappings=mappings)) == []


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        (replace(SOUND, queries={}), {"lost upload"}),
        (query(told_sha256="abd"), {"changed upload"}),
        (query(stored_sha256="abd"), {"changed upload"}),
        (query(stored_sha256=None), {"changed upload"}),
        (query(state="checking", ends=()), {"unfinished"}),
        (query(state="rejected", ends=("check.failed",)), {"failed"}),
        (query(ends=("check.succeeded", "check.succeeded")), {"finished events"}),
        (query(ends=()), {"finished events"}),
        (replace(SOUND, mappings={"m2": CANCELLED}), {"lost mapping"}),
        (mapping(key="k2"), {"doubled mapping"}),
        (mapping(ends=("map.succeeded", "map.succeeded")), {"finished events"}),
        (mapping(ends=("map.succeeded", "map.failed")), {"finished events"}),
        (mapping(ends=()), {"finished events"}),
        (mapping(sets=2), {"result sets"}),
        (mapping(sets=0), {"result sets"}),
        (mapping(downloaded={**RESULTS, "latent.csv": "d3"}), {"other bytes"}),
        (mapping(downloaded={"latent.npy": "d1"}), {"other bytes"}),
        (mapping(left=3), {"shards left"}),
        (shard(state="running", ends=()), {"unfinished"}),
        (shard(state="cancelled", ends=("shard.cancelled",)), {"failed"}),
        (shard(mapping="m2", state="failed", ends=("shard.failed",)), {"failed"}),
        (shard(ends=("shard.succeeded", "shard.succeeded")), {"finished events"}),
        (replace(SOUND, rankings={}), {"lost ranking"}),
        (ranking(state="running", ends=()), {"unfinished"}),
        (ranking(state="failed", ends=("rank.failed",)), {"failed"}),
        (ranking(items=0), {"failed"}),
        (ranking(ends=("rank.succeeded", "rank.succeeded")), {"finished events"}),
        (replace(SOUND, fsck=("missing: queries/q1",)), {"fsck"}),
    ],
)
def test_each_violation_is_caught(findings: Findings, expected: set[str]) -> None:
    assert kinds(findings) == expected


def test_a_mapping_without_an_end_is_caught() -> None:
    running = mapping(state="running", ends=(), sets=0, results={}, downloaded={})
    assert kinds(running) == {"unfinished", "changed answer"}


def test_a_failure_and_a_cancel_that_nobody_asked_for_are_caught() -> None:
    for state in ("failed", "cancelled"):
        other = replace(MAPPING, state=state, ends=(f"map.{state}",), sets=0, results={})
        found = replace(SOUND, mappings={**SOUND.mappings, "m1": other})
        assert kinds(found) == {"failed", "changed answer"}


def test_results_that_differ_from_the_undisturbed_run_are_caught() -> None:
    other = {**RESULTS, "latent.npy": "d9"}
    assert kinds(mapping(results=other, downloaded=other)) == {"other bytes", "changed answer"}


def test_a_final_state_that_changes_is_caught() -> None:
    seen = {"kind": "seen", "mapping": "m2", "state": "succeeded", "results": RESULTS}
    assert kinds(SOUND, seen) == {"changed answer"}


def test_one_request_with_two_answers_is_caught() -> None:
    again = {"kind": "submitted", "mapping": "m9", "key": "k1", "content": "a", "recipe": "default"}
    assert kinds(SOUND, again) == {"doubled mapping", "lost mapping"}


def test_what_was_seen_and_is_gone_is_caught() -> None:
    seen = {"kind": "seen", "mapping": "m9", "state": "succeeded", "results": RESULTS}
    assert kinds(SOUND, seen) == {"lost mapping"}


def test_an_answer_that_should_not_be_is_caught() -> None:
    error = {"kind": "error", "call": "POST /v1/mappings", "detail": "500"}
    assert kinds(SOUND, error) == {"error"}
