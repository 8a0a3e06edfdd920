"""Which format of the latent a client wants, by its Accept header."""

from __future__ import annotations

from collections.abc import Sequence

from app.problems import NotAcceptable

# In our order of preference: the first of equals wins.
FORMATS = {
    "latent.parquet": ("application/vnd.apache.parquet", "application/x-parquet"),
    "latent.csv": ("text/csv",),
    "latent.npy": ("application/x-npy", "application/octet-stream"),
}


def choose_format(accept: str | None, available: Sequence[str]) -> str:
    wanted = _weights(accept or "*/*")
    scores = {
        name: max(_weight(wanted, media_type) for media_type in media_types)
        for name, media_types in FORMATS.items()
        if name in available
    }
    best = max(scores, key=lambda name: scores[name], default=None)
    if best is None or scores[best] <= 0:
        raise NotAcceptable(
            f"The latent is not available as {accept}.",
            fix="Accept one of: " + ", ".join(types[0] for types in FORMATS.values()) + ".",
            available=[types[0] for types in FORMATS.values()],
        )
    return best


def _weights(accept: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for part in accept.split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                quality = _number(value)
        weights[media_type] = quality
    return weights


def _weight(wanted: dict[str, float], media_type: str) -> float:
    """The most specific statement counts; an exact name beats an equal wildcard."""
    if media_type in wanted:
        return wanted[media_type] + (1e-6 if wanted[media_type] else 0)
    group = media_type.split("/")[0] + "/*"
    return wanted.get(group, wanted.get("*/*", 0.0))


def _number(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 0.0
