"""How far one number is from another, and how far it may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

Errors = dict[str, float]


def error(ours: Tensor, theirs: Tensor) -> float:
    """max|a - b| / max|b|; NaN never passes for small."""
    assert ours.shape == theirs.shape, f"{tuple(ours.shape)} against {tuple(theirs.shape)}"
    difference = float((ours - theirs).detach().abs().max()) if ours.numel() else 0.0
    if difference == 0:
        return 0.0
    size = float(theirs.detach().abs().max())
    return difference / size if size > 0 else float("inf")


def worst(errors: Iterable[float]) -> float:
    """The largest error; NaN counts as infinite."""
    return max((e if e == e else float("inf") for e in errors), default=0.0)


def beyond(limits: Mapping[str, float], errors: Errors) -> list[str]:
    """The quantities that are further off than they may be."""
    return [quantity for quantity, e in errors.items() if not e <= limits[quantity]]
