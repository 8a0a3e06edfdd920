"""One link of a file at a time: where it leads, and whether what stands there is all its own."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from h5py import h5d, h5g, h5l, h5o

from app.problems import Problem
from worker.intake.findings import located
from worker.names import readable

WRITE_PLAIN = (
    "Read the file with anndata.read_h5ad where it was made and write it with write_h5ad: the "
    "new file holds everything itself."
)
MOST_SOFT_LINKS = 16
"""Soft links that may lead to one another."""


def bad_link(group: h5g.GroupID, name: bytes, path: bytes) -> Problem | None:
    """Why a link may not be followed; None for hard and soft ones. Paths are bytes: HDF5 does not
    promise that a name is text."""
    shown = readable(path)
    if not name or b"/" in name or name == b".":
        # HDF5 would take such a name for a way, and follow the links on it.
        detail = f"{shown} holds a link whose name is no name: {readable(name)!r}."
        return located("damaged-file", shown, detail)
    kind = group.links.get_info(name).type
    if kind in {h5l.TYPE_HARD, h5l.TYPE_SOFT}:
        return None
    if kind == h5l.TYPE_EXTERNAL:
        return located("external-link", shown, f"{shown} is a link to another file.", WRITE_PLAIN)
    return located("unknown-link", shown, f"{shown} is a link to an unknown place.", WRITE_PLAIN)


def foreign_bytes(group: h5g.GroupID, name: bytes, path: bytes) -> Problem | None:
    """Why a dataset may not be read: its bytes are not, or not all, in this file.

    The creation properties are read before anything asks for the dataset's size or bytes: of a
    virtual dataset already the size can depend on other files.
    """
    properties = h5d.open(group, name).get_create_plist()
    shown = readable(path)
    if properties.get_layout() == h5d.VIRTUAL:
        return located("virtual-dataset", shown, f"{shown} is a virtual dataset.", WRITE_PLAIN)
    if properties.get_external_count() > 0:
        detail = f"{shown} keeps its bytes in another file."
        return located("external-storage", shown, detail, WRITE_PLAIN)
    return None


def dangling(path: bytes) -> Problem:
    shown = readable(path)
    detail = f"{shown} is a soft link that does not end on an object of this file."
    return located("dangling-link", shown, detail, WRITE_PLAIN)


def resolve(root: h5g.GroupID, path: bytes, hops: Iterator[int] | None = None) -> bytes | None:
    """The hard path of an object, each link on the way looked at before it is followed.

    None: there is nothing at `path`. All soft links of one way draw on the same `hops`: as many
    at each step of each target would multiply.

    Raises:
        Problem: the way, or what stands at its end, leads out of the file.
    """
    hops = iter(range(MOST_SOFT_LINKS)) if hops is None else hops
    here = b"/"
    for name in path.split(b"/"):
        if not name:
            continue
        if h5o.get_info(root, here).type != h5o.TYPE_GROUP:
            return None
        group = h5g.open(root, here)
        if not group.links.exists(name):
            return None
        at = posixpath.join(here, name)
        if (bad := bad_link(group, name, at)) is not None:
            raise bad
        if group.links.get_info(name).type == h5l.TYPE_SOFT:
            here = _follow(root, at, posixpath.join(here, group.links.get_val(name)), hops)
        else:
            here = at
    _judge_end(root, here, path)
    return here


def _follow(root: h5g.GroupID, link: bytes, target: bytes, hops: Iterator[int]) -> bytes:
    more = next(hops, None) is not None
    found = resolve(root, posixpath.normpath(target), hops) if more else None
    if found is None:
        raise dangling(link)
    return found


def _judge_end(root: h5g.GroupID, found: bytes, path: bytes) -> None:
    if h5o.get_info(root, found).type == h5o.TYPE_DATASET:
        parent, name = posixpath.split(found)
        bad = foreign_bytes(h5g.open(root, parent), name, path)
        if bad is not None:
            raise bad
