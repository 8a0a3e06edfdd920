"""What was acknowledged against what is found: a function of the two, and of nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Entry = Mapping[str, Any]
"""One line of the history: its `kind`, and facts."""
TERMINAL = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class Violation:
    kind: str
    subject: str
    detail: str


@dataclass(frozen=True)
class FoundQuery:
    state: str
    told_sha256: str
    stored_sha256: str | None
    """Of the bytes in the store; None where there are none."""
    ends: tuple[str, ...]
    """Every event that says its check is over."""


@dataclass(frozen=True)
class FoundMapping:
    key: str
    """The Idempotency-Key of the request that made it."""
    state: str
    ends: tuple[str, ...]
    sets: int
    """Folders of results in the store, after the sweep of what no row speaks of."""
    results: Mapping[str, str]
    """Digests by file name, as the API tells them."""
    downloaded: Mapping[str, str]
    """Digests of the same files as the API hands them out."""
    left: int = 0
    """Files of its shards, which nobody needs when it has ended."""


@dataclass(frozen=True)
class FoundShard:
    mapping: str
    state: str
    ends: tuple[str, ...]


@dataclass(frozen=True)
class FoundRanking:
    state: str
    ends: tuple[str, ...]
    items: int
    """References of which it says something, without a problem."""


@dataclass(frozen=True)
class Findings:
    queries: Mapping[str, FoundQuery]
    mappings: Mapping[str, FoundMapping]
    fsck: tuple[str, ...] = ()
    shards: Mapping[str, FoundShard] = field(default_factory=dict)
    rankings: Mapping[str, FoundRanking] = field(default_factory=dict)


def violations(history: Sequence[Entry], findings: Findings) -> list[Violation]:
    """Every promise that was broken. Orders of entries and of findings do not matter."""
    return [
        *_uploads(history, findings),
        *_checks(findings),
        *_lost_mappings(history, findings),
        *_doubled_mappings(history, findings),
        *_finals(history, findings),
        *_shards(findings),
        *_rankings(history, findings),
        *_result_sets(findings),
        *_bytes(history, findings),
        *_changed_answers(history, findings),
        *(Violation("error", str(e["call"]), str(e["detail"])) for e in _of(history, "error")),
        *(Violation("fsck", line, "rows and files disagree") for line in findings.fsck),
    ]


def _of(history: Sequence[Entry], kind: str) -> Iterator[Entry]:
    return (entry for entry in history if entry["kind"] == kind)


def _uploads(history: Sequence[Entry], findings: Findings) -> Iterator[Violation]:
    for entry in _of(history, "uploaded"):
        found = findings.queries.get(entry["query"])
        if found is None:
            yield Violation("lost upload", entry["query"], "acknowledged, and not there")
        elif {found.told_sha256, found.stored_sha256} != {entry["sha256"]}:
            told = f"{entry['sha256']} sent, {found.told_sha256} told, {found.stored_sha256} stored"
            yield Violation("changed upload", entry["query"], told)


def _checks(findings: Findings) -> Iterator[Violation]:
    for query, found in findings.queries.items():
        if found.state == "checking":
            yield Violation("unfinished", query, "its check has no final state")
        elif found.state != "ready":
            yield Violation("failed", query, f"a sound file is {found.state}")
        if len(found.ends) != 1 and found.state != "checking":
            yield Violation("finished events", query, f"not one: {found.ends}")


def _lost_mappings(history: Sequence[Entry], findings: Findings) -> Iterator[Violation]:
    for entry in _of(history, "submitted"):
        if entry["mapping"] not in findings.mappings:
            yield Violation("lost mapping", entry["mapping"], "acknowledged, and not there")


def _doubled_mappings(history: Sequence[Entry], findings: Findings) -> Iterator[Violation]:
    made = {(found.key, mapping) for mapping, found in findings.mappings.items()}
    made |= {(entry["key"], entry["mapping"]) for entry in _of(history, "submitted")}
    for key, number in Counter(key for key, _ in made).items():
        if number > 1:
            yield Violation("doubled mapping", key, f"one request made {number} mappings")


def _finals(history: Sequence[Entry], findings: Findings) -> Iterator[Violation]:
    unwanted = {entry["mapping"] for entry in _of(history, "cancel asked")}
    for mapping, found in findings.mappings.items():
        allowed = {"succeeded", "cancelled"} if mapping in unwanted else {"succeeded"}
        if found.state not in TERMINAL:
            yield Violation("unfinished", mapping, f"still {found.state}")
            continue
        if found.state not in allowed:
            yield Violation("failed", mapping, f"{found.state}, for no reason of its own")
        if found.ends != (f"map.{found.state}",):
            yield Violation("finished events", mapping, f"{found.state}, but told {found.ends}")


def _shards(findings: Findings) -> Iterator[Violation]:
    for shard, found in findings.shards.items():
        of = findings.mappings.get(found.mapping)
        if of is None:
            yield Violation("lost mapping", found.mapping, "a shard of it is there")
            continue
        allowed = {"succeeded"} if of.state == "succeeded" else {"succeeded", "cancelled"}
        if found.state not in TERMINAL:
            yield Violation("unfinished", shard, f"a shard is still {found.state}")
            continue
        if found.state not in allowed:
            yield Violation("failed", shard, f"a {found.state} shard of a {of.state} mapping")
        if found.ends != (f"shard.{found.state}",):
            yield Violation("finished events", shard, f"{found.state}, but told {found.ends}")


def _rankings(history: Sequence[Entry], findings: Findings) -> Iterator[Violation]:
    """Nobody deletes one or asks again while it runs: each that was told of has one good end."""
    for entry in _of(history, "ranking asked"):
        if entry["ranking"] not in findings.rankings:
            yield Violation("lost ranking", entry["ranking"], "acknowledged, and not there")
    for ranking, found in findings.rankings.items():
        if found.state not in TERMINAL:
            yield Violation("unfinished", ranking, f"a ranking is still {found.state}")
            continue
        if found.state != "succeeded" or not found.items:
            yield Violation("failed", ranking, f"{found.state}, of {found.items} references")
        if found.ends != (f"rank.{found.state}",):
            yield Violation("finished events", ranking, f"{found.state}, but told {found.ends}")


def _result_sets(findings: Findings) -> Iterator[Violation]:
    for mapping, found in findings.mappings.items():
        if found.left:
            yield Violation("shards left", mapping, f"{found.left} files of a mapping that ended")
        if found.sets != (found.state == "succeeded"):
            yield Violation("result sets", mapping, f"{found.sets} of a {found.state} mapping")


def _bytes(history: Sequence[Entry], findings: Findings) -> Iterator[Violation]:
    undisturbed = {(e["content"], e["recipe"]): e["results"] for e in _of(history, "undisturbed")}
    for entry in _of(history, "submitted"):
        found = findings.mappings.get(entry["mapping"])
        if found is None or found.state != "succeeded":
            continue
        expected = undisturbed[entry["content"], entry["recipe"]]
        if not expected.items() <= found.results.items():
            yield Violation("other bytes", entry["mapping"], "not those of an undisturbed run")
        if found.downloaded != found.results:
            yield Violation("other bytes", entry["mapping"], "a download is not what is told")


def _changed_answers(history: Sequence[Entry], findings: Findings) -> Iterator[Violation]:
    for entry in _of(history, "seen"):
        found = findings.mappings.get(entry["mapping"])
        if found is None:
            yield Violation("lost mapping", entry["mapping"], f"was seen {entry['state']}")
        elif (entry["state"], entry["results"]) != (found.state, found.results):
            told = f"was seen {entry['state']}, is {found.state}, or has other results"
            yield Violation("changed answer", entry["mapping"], told)
