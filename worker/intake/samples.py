"""Which of the files that came together make a sample, and what each sample is called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.intake.findings import Findings, located
from worker.names import free_name, readable

LONGEST_NAME = 100
ROLES = {
    "matrix": re.compile(r"^(.*?)matrix\.mtx(\.gz)?$", re.IGNORECASE),
    "features": re.compile(r"^(.*?)(features|genes)\.tsv(\.gz)?$", re.IGNORECASE),
    "barcodes": re.compile(r"^(.*?)barcodes\.tsv(\.gz)?$", re.IGNORECASE),
}
"""The three files of a matrix in Matrix Market form; what stands before is the sample's."""
ENDINGS = re.compile(r"(\.(h5ad|h5mu|h5|hdf5|tar|tgz|gz|zip))+$", re.IGNORECASE)
USUAL = re.compile(
    r"[-_. ]*(sample_)?(filtered|raw)?[-_. ]*(feature|gene)_bc_matri(x|ces)(_h5|_mex)?[-_. ]*$",
    re.IGNORECASE,
)
"""What Cell Ranger calls every sample's file."""


@dataclass(frozen=True)
class UploadedFile:
    """One file as it was sent. The name is only ever looked at, never opened."""

    path: Path
    name: str = ""


@dataclass(frozen=True)
class Sample:
    """One file, or the three of an MTX triple in the order of `ROLES`."""

    name: str
    files: tuple[UploadedFile, ...]


def role_of(name: str) -> tuple[str, str] | None:
    """What a file is in an MTX triple, and what stands before that in its name."""
    last = re.split(r"[/\\]", name)[-1]
    for role, pattern in ROLES.items():
        if (found := pattern.match(last)) is not None:
            return role, found.group(1)
    return None


def sort_into_samples(
    files: Sequence[UploadedFile], names: Sequence[str], findings: Findings
) -> list[Sample]:
    """In the order in which they were sent; `names` are the caller's, if any.

    Raises:
        Problem: an MTX triple lacks a file, or there are not as many names as samples.
    """
    groups = _group(files)
    if names and len(names) != len(groups):
        raise located(
            "samples-differ",
            "/",
            f"{len(groups)} samples were sent and {len(names)} names for them.",
            "Repeat sample=... once for each, in the order of the files, or leave it out.",
        )
    wanted = list(names) or [_name_for(group, number) for number, group in enumerate(groups, 1)]
    samples: list[Sample] = []
    for name, group in zip(wanted, groups, strict=True):
        taken = {sample.name for sample in samples}
        samples.append(Sample(free_name(readable(name)[:LONGEST_NAME], taken), group))
    return samples


def _group(files: Sequence[UploadedFile]) -> list[tuple[UploadedFile, ...]]:
    groups: dict[object, dict[str, UploadedFile]] = {}
    for number, file in enumerate(files):
        found = role_of(file.name)
        if found is None or len(files) == 1:
            groups[number] = {"": file}
            continue
        role, before = found
        group = groups.setdefault(before, {})
        if role in group:
            raise located(
                "triple-incomplete",
                f"/parts/{number + 1}",
                f"Part {number + 1} is a second {role} file of the same sample.",
                "Give the files of each sample a beginning of their own, such as a_matrix.mtx.gz.",
            )
        group[role] = file
    return [_whole(group, files) for group in groups.values()]


def _whole(
    group: dict[str, UploadedFile], files: Sequence[UploadedFile]
) -> tuple[UploadedFile, ...]:
    if "" in group:
        return (group[""],)
    missing = [role for role in ROLES if role not in group]
    if missing:
        number = files.index(next(iter(group.values()))) + 1
        raise located(
            "triple-incomplete",
            f"/parts/{number}",
            f"Of the files that belong to part {number}, {' and '.join(missing)} did not come.",
            "Send matrix.mtx, features.tsv (or genes.tsv) and barcodes.tsv of each sample, all "
            "with the same beginning of their names.",
        )
    return tuple(group[role] for role in ROLES)


def _name_for(group: tuple[UploadedFile, ...], number: int) -> str:
    last = re.split(r"[/\\]", group[0].name)[-1]
    found = role_of(last) if len(group) > 1 else None
    stem = found[1] if found else ENDINGS.sub("", last)
    stem = USUAL.sub("", stem).strip("-_. ")
    return stem or f"sample{number}"
