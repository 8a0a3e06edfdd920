"""The obs table: a column found or missed, and its values as names of categories."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from app.problems import Problem
from worker.names import name_of

MISSING = "missing"
"""The category of cells whose value is absent."""


def find_column(
    obs: pd.DataFrame, key: str, kind: type[Problem], *, fix: str, detail: str | None = None
) -> pd.Series:
    """The column `key`; where there is none, a problem of this kind that lists what there is."""
    if key not in obs.columns:
        found = f"The file's obs has no column {key!r}. It has: {listed(obs.columns)}."
        raise kind(
            detail or found,
            fix=fix,
            errors=[{"pointer": f"/obs/{key}", "detail": "no such column"}],
        )
    return obs[key]


def category_names(values: pd.Series) -> pd.Series:
    """Values as category names: numbers become strings, absent values one named category."""
    codes, present = pd.factorize(values)
    names = np.array([*map(name_of, present), MISSING], dtype=object)
    return pd.Series(names[codes], index=values.index)  # the code of an absent value is -1


def listed(names: Sequence[object] | pd.Index, most: int = 20) -> str:
    shown = ", ".join(str(name) for name in list(names)[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
