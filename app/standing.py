"""What a version's state means to those who map onto it: warnings, and why it is refused."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from app.keys import Principal
from app.problems import Problem, ReferenceNotReady
from app.tables import ReferenceVersion
from app.visibility import is_visible

USABLE_STATES = frozenset({"ready", "deprecated"})
"""A version in one of these takes new mappings."""
WARNED_STATES = frozenset({"deprecated", "withdrawn"})
NO_EFFECT = {
    "code": "surgery-has-no-effect",
    "detail": "This reference's encoder does not see the batch, so surgery cannot change a latent: "
    "these are the coordinates of recipe `forward`, whatever the recipe.",
    "fix": "Build the reference with encode_covariates=true to let surgery correct batches.",
}


def successor_of(session: Session, version: ReferenceVersion, caller: Principal) -> str | None:
    """The version to use instead, as NAME@VERSION, if it can be used and the caller may know."""
    if version.successor_id is None:
        return None
    successor = session.get_one(ReferenceVersion, version.successor_id)
    if successor.state not in USABLE_STATES or not is_visible(session, successor.name, caller):
        return None
    return f"{successor.name}@{successor.version}"


def warnings_about(
    session: Session, version: ReferenceVersion, caller: Principal
) -> list[dict[str, Any]]:
    """For every answer of a mapping that was made on this version."""
    return [*_of_its_network(version), *_of_its_state(session, version, caller)]


def _of_its_network(version: ReferenceVersion) -> list[dict[str, Any]]:
    return [NO_EFFECT] if version.surgery_has_effect is False else []


def _of_its_state(
    session: Session, version: ReferenceVersion, caller: Principal
) -> list[dict[str, Any]]:
    if version.state not in WARNED_STATES:
        return []
    successor = successor_of(session, version, caller)
    why = f": {version.state_reason}" if version.state_reason else "."
    return [
        {
            "code": f"reference-{version.state}",
            "detail": f"Reference {version.name} version {version.version} is {version.state}{why}",
            "fix": f"Map onto {successor}." if successor else "Ask who keeps it what to use.",
            "reason": version.state_reason,
            "successor": successor,
        }
    ]


def refusal(session: Session, version: ReferenceVersion, caller: Principal) -> Problem:
    """Why this version takes no new mapping, and what to use instead."""
    successor = successor_of(session, version, caller)
    named = f"{version.name}@{version.version}"
    fixes = {
        "building": "Wait until it is built; GET the reference to see how far it is.",
        "failed": "Its `problem` says why the build failed; build it again.",
        "withdrawn": "Choose another version.",
        "deprecated": f"No version is ready; name this one if it must be it: {named}.",
    }
    why = f": {version.state_reason}" if version.state_reason else "."
    return ReferenceNotReady(
        f"Reference {version.name} version {version.version} is {version.state}{why}",
        fix=f"Use {successor}." if successor else fixes.get(version.state, "Choose another."),
        state=version.state,
        reason=version.state_reason,
        successor=successor,
    )
