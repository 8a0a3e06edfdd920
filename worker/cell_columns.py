"""The columns of cells.parquet, and which names they leave to label levels."""

from __future__ import annotations

import re

from app.problems import Problem

_TAKEN = re.compile(r"batch|(latent|variance|umap)_[0-9]+|__index_level_[0-9]+__")


def is_taken(key: str) -> bool:
    """Whether a column of this name is, or may become, one of the table's own."""
    return _TAKEN.fullmatch(key) is not None


def refuse_taken(key: str, kind: type[Problem], *, fix: str) -> None:
    """Raise a problem of this kind where a label level of this name would replace a column."""
    if not is_taken(key):
        return
    raise kind(
        f"Labels cannot be called {key!r}: the table of the reference's cells has its batches, "
        "latents, variances and UMAP under such names.",
        fix=fix,
        errors=[{"pointer": f"/obs/{key}", "detail": "a name that is taken"}],
    )
