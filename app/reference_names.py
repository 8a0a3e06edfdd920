"""How a reference is written where one is asked for: NAME, NAME@VERSION or NAME@ALIAS."""

from __future__ import annotations

import re
from dataclasses import dataclass

from app.problems import MalformedRequest

ALIAS_PATTERN = r"^[a-z][a-z0-9._-]{0,62}$"
NUMBER_PATTERN = r"^[0-9]{1,19}$"


@dataclass(frozen=True)
class ReferenceName:
    """What was written: a version or an alias, or neither for the default version."""

    name: str
    version: int | None = None
    alias: str | None = None

    def __str__(self) -> str:
        chosen = self.alias if self.version is None else self.version
        return self.name if chosen is None else f"{self.name}@{chosen}"


def read_reference(text: str, version: int | None = None) -> ReferenceName:
    """A reference as a request writes it; `version` is the request's separate field.

    Raises:
        MalformedRequest: two different versions, or an alias and a version.
    """
    name, at, chosen = text.partition("@")
    if not at:
        return ReferenceName(name, version)
    found = (
        ReferenceName(name, int(chosen))
        if re.fullmatch(NUMBER_PATTERN, chosen)
        else ReferenceName(name, alias=chosen)
    )
    if version is not None and version != found.version:
        raise MalformedRequest(
            f"The request names {text} and version {version}.",
            fix="Name the version once: NAME@VERSION, or `version` beside the bare name.",
            errors=[{"pointer": "/version", "detail": f"contradicts {text}"}],
        )
    return found


def check_alias(alias: str) -> None:
    """Raise MalformedRequest for what could be taken for a version, or has no place in a URL."""
    if re.fullmatch(ALIAS_PATTERN, alias) and not _looks_like_a_number(alias):
        return
    raise MalformedRequest(
        f"{alias!r} cannot be an alias.",
        fix="Begin with a lower-case letter; then letters, digits, dots, dashes and underscores, "
        "at most 63; nothing that could be a number.",
        errors=[{"pointer": "/alias", "detail": f"must match {ALIAS_PATTERN}, and be no number"}],
    )


def _looks_like_a_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return re.fullmatch(r"v?[0-9._-]+", text) is not None
    return True  # `nan` and `infinity` too: a parser of somebody's may take them for numbers
