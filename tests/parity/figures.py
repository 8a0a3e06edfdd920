"""Errors as the tables of docs/parity.md show them."""

from __future__ import annotations

from collections.abc import Sequence

from .errors import Errors


def figure(quantities: Sequence[str], errors: Errors) -> str:
    """The largest of these errors, to one digit."""
    known = [(errors[q], q) for q in quantities if q in errors]
    if not known:
        return "–"
    value, quantity = max(known)
    if quantity == "latent, in standard errors":
        return f"{value:.1f} s.e."
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def row(*cells: str) -> str:
    """A line of a table."""
    return "| " + " | ".join(cells) + " |"
