"""Look before you follow: walk a file's raw links, and tell all that lead out of it."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field

import h5py
from h5py import h5g, h5l, h5o

from worker.intake.findings import Findings, located, reading
from worker.intake.limits import Limits
from worker.intake.links import WRITE_PLAIN, bad_link, dangling, foreign_bytes
from worker.names import readable


@dataclass
class _Walk:
    """Paths are bytes here: HDF5 does not promise that a name is text."""

    limits: Limits
    findings: Findings
    hard: set[bytes] = field(default_factory=lambda: {b"/"})
    soft: dict[bytes, bytes] = field(default_factory=dict)
    seen: set[tuple[int, int]] = field(default_factory=set)
    """Objects met so far; an object with two names is walked once, so cycles end."""


def look(file: h5py.File, limits: Limits, findings: Findings) -> None:
    """Find every link that leaves the file and every dataset that does not hold its own bytes.

    Raises:
        Problem: the file cannot be walked to its end.
    """
    walk = _Walk(limits, findings)
    todo = [(b"/", 0)]
    while todo:
        path, depth = todo.pop()
        if depth > limits.depth:
            raise located(
                "too-deep", readable(path), f"Groups are nested {depth} deep.", WRITE_PLAIN
            )
        with reading(readable(path)):
            group = h5g.open(file.id, path)
            todo.extend((child, depth + 1) for child in _children(walk, group, path))
    for link, target in walk.soft.items():
        if target not in walk.hard:
            findings.take(dangling(link))


def _children(walk: _Walk, group: h5g.GroupID, path: bytes) -> list[bytes]:
    """Judge every link of one group; the groups among them are still to be walked."""
    names: list[bytes] = []

    def collect(name: bytes, *_: object) -> bool | None:
        names.append(name)
        return True if len(walk.hard) + len(names) > walk.limits.objects else None

    group.links.iterate(collect)
    if len(walk.hard) + len(names) > walk.limits.objects:
        raise located(
            "too-many-objects",
            readable(path),
            f"The file holds more than {walk.limits.objects:,} objects.",
            "Remove what mapping does not need (uns, obsp, spare layers) and write it again.",
        )
    return [child for name in names if (child := _judge_link(walk, group, path, name))]


def _judge_link(walk: _Walk, group: h5g.GroupID, path: bytes, name: bytes) -> bytes | None:
    """The path of a group not yet walked, or None for anything else."""
    child = posixpath.join(path, name)
    if (bad := bad_link(group, name, child)) is not None:
        walk.findings.take(bad)
        return None
    if group.links.get_info(name).type == h5l.TYPE_SOFT:
        target = group.links.get_val(name)
        walk.soft[child] = posixpath.normpath(posixpath.join(path, target))
        return None
    walk.hard.add(child)
    info = h5o.get_info(group, name)
    identity = (info.fileno, info.addr)
    if identity in walk.seen:
        return None
    walk.seen.add(identity)
    if info.type == h5o.TYPE_DATASET and (bad := foreign_bytes(group, name, child)) is not None:
        walk.findings.take(bad)
    return child if info.type == h5o.TYPE_GROUP else None
