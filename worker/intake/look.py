"""Look before you follow: walk a file's raw links, and tell all that lead out of it."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field

import h5py
from h5py import h5g, h5l, h5o

from app.problems import Problem
from worker.intake.findings import Findings, located, reading
from worker.intake.limits import Limits
from worker.intake.links import WRITE_PLAIN, bad_link, dangling, foreign_bytes
from worker.names import readable


@dataclass
class _Walk:
    """Paths are bytes here: HDF5 does not promise that a name is text."""

    limits: Limits
    findings: Findings
    links: int = 0
    hard: set[bytes] = field(default_factory=lambda: {b"/"})
    soft: dict[bytes, bytes] = field(default_factory=dict)
    seen: dict[tuple[int, int], bytes] = field(default_factory=dict)
    """Where each object was met. None is walked twice, so cycles end."""


def look(file: h5py.File, limits: Limits, findings: Findings) -> None:
    """Find every link that leaves the file and every dataset that does not hold its own bytes.

    A group that cannot be read is told and passed over: what it holds is looked at link by link,
    should anything ask for it.

    Raises:
        Problem: the file holds too much to be walked to its end.
    """
    walk = _Walk(limits, findings)
    with findings.collecting(), reading("/"):
        root = h5o.get_info(file.id, b"/")
        walk.seen[root.fileno, root.addr] = b"/"
    todo = [(b"/", 0)]
    while todo:
        path, depth = todo.pop()
        shown = readable(path)
        if depth > limits.depth:
            findings.tell("too-deep", shown, f"Groups are nested {depth} deep.", WRITE_PLAIN)
            continue
        names: list[bytes] = []
        with findings.collecting(), reading(shown):
            group = h5g.open(file.id, path)
            names = _names(walk, group)
        if walk.links > limits.objects:
            raise _too_many(shown, limits)
        for name in names:
            with findings.collecting(), reading(readable(posixpath.join(path, name))):
                child = _judge_link(walk, group, path, name)
                if child is not None:
                    todo.append((child, depth + 1))
    for link, target in walk.soft.items():
        if target not in walk.hard:
            findings.take(dangling(link))


def _names(walk: _Walk, group: h5g.GroupID) -> list[bytes]:
    """The links of a group, or as many as show that there are too many."""
    names: list[bytes] = []

    def collect(name: bytes, *_: object) -> bool | None:
        names.append(name)
        walk.links += 1
        return True if walk.links > walk.limits.objects else None

    group.links.iterate(collect)
    return names


def _too_many(pointer: str, limits: Limits) -> Problem:
    return located(
        "too-many-objects",
        pointer,
        f"The file holds more than {limits.objects:,} objects.",
        "Remove what mapping does not need (uns, obsp, spare layers) and write it again.",
    )


def _judge_link(walk: _Walk, group: h5g.GroupID, path: bytes, name: bytes) -> bytes | None:
    """The path of a group not yet walked, or None for anything else."""
    child = posixpath.join(path, name)
    if (bad := bad_link(group, name, child)) is not None:
        raise bad
    if group.links.get_info(name).type == h5l.TYPE_SOFT:
        target = group.links.get_val(name)
        walk.soft[child] = posixpath.normpath(posixpath.join(path, target))
        return None
    walk.hard.add(child)
    info = h5o.get_info(group, name)
    met = walk.seen.setdefault((info.fileno, info.addr), child)
    if met != child:
        raise _met_again(met, child)
    if info.type == h5o.TYPE_DATASET and (bad := foreign_bytes(group, name, child)) is not None:
        raise bad
    return child if info.type == h5o.TYPE_GROUP else None


def _met_again(first: bytes, again: bytes) -> Problem:
    shown, known = readable(again), readable(first)
    circle = (again + b"/").startswith(first.rstrip(b"/") + b"/")
    detail = f"{shown} is {known} itself once more" + (", a circle." if circle else ".")
    return located("object-repeated", shown, detail, WRITE_PLAIN)
