"""Look before you follow: walk a file's raw links, and refuse those that lead out of it."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field

import h5py
from h5py import h5d, h5g, h5l, h5o

from app.problems import FileTooLarge, UnsupportedFile
from worker.intake.findings import located, reading
from worker.intake.limits import Limits
from worker.names import readable

WRITE_PLAIN = (
    "Read the file with anndata.read_h5ad where it was made and write it with write_h5ad: the "
    "new file holds everything itself."
)


@dataclass
class _Walk:
    """Paths are bytes here: HDF5 does not promise that a name is text."""

    limits: Limits
    hard: set[bytes] = field(default_factory=lambda: {b"/"})
    soft: dict[bytes, bytes] = field(default_factory=dict)
    seen: set[tuple[int, int]] = field(default_factory=set)
    """Objects met so far; an object with two names is walked once, so cycles end."""


def look(file: h5py.File, limits: Limits) -> None:
    """Prove that every link stays inside the file and every dataset holds its own bytes."""
    walk = _Walk(limits)
    todo = [(b"/", 0)]
    while todo:
        path, depth = todo.pop()
        if depth > limits.depth:
            raise located(
                UnsupportedFile, readable(path), f"Groups are nested {depth} deep.", WRITE_PLAIN
            )
        with reading(readable(path)):
            group = h5g.open(file.id, path)
            todo.extend((child, depth + 1) for child in _children(walk, group, path))
    _check_soft_links(walk)


def _children(walk: _Walk, group: h5g.GroupID, path: bytes) -> list[bytes]:
    """Judge every link of one group; the groups among them are still to be walked."""
    names: list[bytes] = []

    def collect(name: bytes, *_: object) -> bool | None:
        names.append(name)
        return True if len(walk.hard) + len(names) > walk.limits.objects else None

    group.links.iterate(collect)
    if len(walk.hard) + len(names) > walk.limits.objects:
        raise located(
            FileTooLarge,
            readable(path),
            f"The file holds more than {walk.limits.objects:,} objects.",
            "Remove what mapping does not need (uns, obsp, spare layers) and write it again.",
        )
    return [child for name in names if (child := _judge_link(walk, group, path, name))]


def _judge_link(walk: _Walk, group: h5g.GroupID, path: bytes, name: bytes) -> bytes | None:
    """The path of a group not yet walked, or None for anything else that is in order."""
    child = posixpath.join(path, name)
    kind = group.links.get_info(name).type
    if kind == h5l.TYPE_SOFT:
        target = group.links.get_val(name)
        walk.soft[child] = posixpath.normpath(posixpath.join(path, target))
        return None
    if kind != h5l.TYPE_HARD:
        what = "another file" if kind == h5l.TYPE_EXTERNAL else "an unknown place"
        shown = readable(child)
        raise located(UnsupportedFile, shown, f"{shown} is a link to {what}.", WRITE_PLAIN)
    walk.hard.add(child)
    info = h5o.get_info(group, name)
    identity = (info.fileno, info.addr)
    if identity in walk.seen:
        return None
    walk.seen.add(identity)
    if info.type == h5o.TYPE_DATASET:
        _judge_dataset(group, name, readable(child))
    return child if info.type == h5o.TYPE_GROUP else None


def _judge_dataset(group: h5g.GroupID, name: bytes, path: str) -> None:
    # The creation properties are read before anything asks for the dataset's size or bytes:
    # of a virtual dataset already the size can depend on other files.
    properties = h5d.open(group, name).get_create_plist()
    if properties.get_layout() == h5d.VIRTUAL:
        raise located(UnsupportedFile, path, f"{path} is a virtual dataset.", WRITE_PLAIN)
    if properties.get_external_count() > 0:
        raise located(
            UnsupportedFile, path, f"{path} keeps its bytes in another file.", WRITE_PLAIN
        )


def _check_soft_links(walk: _Walk) -> None:
    for path, target in walk.soft.items():
        if target not in walk.hard:
            shown = readable(path)
            raise located(
                UnsupportedFile,
                shown,
                f"{shown} is a soft link that does not end on an object of this file.",
                WRITE_PLAIN,
            )
