"""Which three files of an upload are a matrix, its genes and its cells."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field

from worker.intake.archives import Archive, Member, Text, loose_text
from worker.intake.findings import Findings, located
from worker.intake.limits import Limits
from worker.intake.samples import ROLES, UploadedFile, role_of
from worker.names import readable

WHOLE_FILES = (".h5ad", ".h5mu", ".h5", ".hdf5", ".loom")
LISTED = 100


@dataclass(frozen=True)
class Triple:
    """See `ROLES`."""

    matrix: Text
    features: Text
    barcodes: Text
    others: list[str] = field(default_factory=list)
    """What else was packed."""


def triple_of_parts(files: Sequence[UploadedFile], limits: Limits) -> Triple:
    """Three files that were sent one by one. Pointers call them by what they are."""
    names = ("/matrix.mtx", "/features.tsv", "/barcodes.tsv")
    matrix, features, barcodes = (
        loose_text(file.path, name, limits) for file, name in zip(files, names, strict=True)
    )
    return Triple(matrix, features, barcodes)


def find_triple(archive: Archive, findings: Findings) -> Triple:
    """The one triple of an archive, in whatever folder it lies.

    Raises:
        Problem: there is none, or there are several.
    """
    members = archive.members(findings)
    groups: dict[str, dict[str, Member]] = {}
    for member in members:
        found = role_of(member.name)
        if found is None:
            continue
        role, before = found
        group = groups.setdefault(posixpath.join(posixpath.dirname(member.name), before), {})
        if role in group:
            raise located(
                "archive-repeats",
                member.pointer,
                f"{group[role].name!r} and {member.name!r} are both the {role} of one matrix.",
                "Leave one of them out.",
            )
        group[role] = member
    whole = {place: group for place, group in groups.items() if len(group) == len(ROLES)}
    if len(whole) != 1:
        _refuse(whole, groups, members)
    chosen = next(iter(whole.values()))
    others = [readable(member.name) for member in members if member not in chosen.values()]
    matrix, features, barcodes = (archive.text(chosen[role]) for role in ROLES)
    return Triple(matrix, features, barcodes, others[:LISTED])


def _refuse(
    whole: dict[str, dict[str, Member]],
    groups: dict[str, dict[str, Member]],
    members: list[Member],
) -> None:
    if whole:
        places = ", ".join(f"`{place.rstrip('/') or '.'}`" for place in sorted(whole)[:20])
        raise located(
            "several-matrices",
            "/",
            f"The archive holds {len(whole)} matrices: {places}.",
            "Send each as a file of its own, in one form if they are to be one query; of a raw "
            "and a filtered one send the filtered one.",
        )
    for group in groups.values():
        missing = " and ".join(role for role in ROLES if role not in group)
        raise located(
            "triple-incomplete",
            next(iter(group.values())).pointer,
            f"Beside {next(iter(group.values())).name!r} there is no file of {missing}.",
            "Pack matrix.mtx, features.tsv (or genes.tsv) and barcodes.tsv in one folder.",
        )
    found = [member.name for member in members if member.name.lower().endswith(WHOLE_FILES)]
    if found:
        raise located(
            "other-format",
            "/",
            f"The archive holds {found[0]!r}, which is taken as it is.",
            "Unpack it and upload that file.",
        )
    raise located(
        "triple-incomplete",
        "/",
        "The archive holds no matrix.mtx.",
        "Pack matrix.mtx, features.tsv (or genes.tsv) and barcodes.tsv in one folder.",
    )
