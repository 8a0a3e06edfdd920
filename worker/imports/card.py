"""What the model card of a hub says that a manifest has a place for."""

from __future__ import annotations

import re
from pathlib import Path

READ_BYTES = 65_536
LICENCE = re.compile(r"^license:\s*[\"']?([\w.+-]{1,60})[\"']?\s*$", re.MULTILINE)

SPDX = {
    "mit": "MIT",
    "apache-2.0": "Apache-2.0",
    "cc0-1.0": "CC0-1.0",
    "bsd-3-clause": "BSD-3-Clause",
}
"""The hub writes licences in lower case; these are not simply upper case in SPDX."""


def licence_of(card: Path | None) -> str | None:
    """The licence in a card's header, as SPDX writes it; None where none is stated."""
    if card is None:
        return None
    with card.open("rb") as file:
        text = file.read(READ_BYTES).decode("utf-8", "replace")
    if not text.startswith("---"):
        return None
    found = LICENCE.search(text.split("\n---", 1)[0])
    if found is None or found[1] in {"other", "unknown"}:
        return None
    return SPDX.get(found[1], found[1].upper())
