"""The licence and the citation that a reference is built with: their form, not their truth."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from app.problems import MalformedRequest

LONGEST_LICENCE = 255
LONGEST_CITATION = 2000

_IDENTIFIER = r"(?:(?:DocumentRef-[A-Za-z0-9.-]+:)?LicenseRef-)?[A-Za-z0-9][A-Za-z0-9.-]*\+?"
_EXPRESSION = re.compile(rf"\(*{_IDENTIFIER}\)*(?: (?:AND|OR|WITH) \(*{_IDENTIFIER}\)*)*", re.ASCII)


def check_terms(options: Mapping[str, Any]) -> None:
    """Raise MalformedRequest when `licence` cannot be SPDX, or `citation` is too long to repeat.

    Loose: any identifier passes, known to SPDX or not, because its list grows.
    """
    licence, citation = options.get("licence"), options.get("citation")
    if licence is not None and not _is_spdx(licence):
        raise MalformedRequest(
            f"{licence!r} is no SPDX licence expression.",
            fix="Write an identifier such as CC-BY-4.0 or CC0-1.0, several joined by AND or OR, or "
            "LicenseRef-NAME for terms of your own.",
            errors=[{"pointer": "/licence", "detail": "not an SPDX expression"}],
        )
    if citation is not None and len(citation) > LONGEST_CITATION:
        raise MalformedRequest(
            f"The citation has {len(citation)} characters; every answer repeats it.",
            fix=f"Shorten it to {LONGEST_CITATION}: a reference and its DOI.",
            errors=[{"pointer": "/citation", "detail": f"at most {LONGEST_CITATION} characters"}],
        )


def _is_spdx(text: str) -> bool:
    return (
        len(text) <= LONGEST_LICENCE
        and _EXPRESSION.fullmatch(text) is not None
        and text.count("(") == text.count(")")
    )
