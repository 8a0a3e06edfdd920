"""The labels that cells bring along: those that the reference knows, and cells without any."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from app.problems import UnknownLabelsColumn
from models_store.manifest import Manifest
from worker.obs import category_names, find_column, listed

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class GivenLabels:
    """The label of every cell by its code; the number of labels is the code of those without."""

    codes: Codes
    n_labels: int
    key: str | None
    unknown: dict[str, int] = field(default_factory=dict)
    """Cells of each label that the reference does not know; they count as unlabelled."""
    warnings: tuple[dict[str, str], ...] = ()

    def facts(self) -> dict[str, Any]:
        """What provenance says of them."""
        n = int((self.codes < self.n_labels).sum())
        return {
            "key": self.key,
            "n_labelled": n,
            "n_unlabelled": len(self.codes) - n,
            "unknown": self.unknown,
        }


def label_names(values: pd.Series, unlabeled: str | None) -> pd.Series:
    """Labels as names; None where the value is absent or says that there is no label."""
    names = category_names(values)
    return names.where(values.notna() & (names != unlabeled), None)


def labels_of(obs: pd.DataFrame, manifest: Manifest, key: str | None) -> GivenLabels | None:
    """The labels in a column of obs; None for a reference that has no use for them.

    Raises:
        UnknownLabelsColumn: obs lacks the column, and the reference is not of a kind that takes
            such cells for unlabelled ones.
    """
    of_kind = manifest.kind == "scanvi"
    if key is not None and not (of_kind and key not in obs.columns):
        fix = "Name one of these columns as labels_key, or leave labels_key out."
        find_column(obs, key, UnknownLabelsColumn, fix=fix)
    if not of_kind and not manifest.architecture.dispersion_by_label:
        return None
    known = manifest.labels[0].categories
    if key is None or key not in obs.columns:
        nobody = np.full(len(obs), len(known), dtype=np.int64)
        return GivenLabels(nobody, len(known), key, warnings=_absent(key))
    values, unlabeled = obs[key], manifest.unlabeled_category
    names = label_names(values, unlabeled) if of_kind else category_names(values)
    position = {name: code for code, name in enumerate(known)}
    codes = np.asarray(names.map(position).fillna(len(known)), dtype=np.int64)
    strange = names[names.notna() & ~names.isin(known)].value_counts().sort_index()
    unknown = {str(name): int(n) for name, n in strange.items()}
    return GivenLabels(codes, len(known), key, unknown, _unknown(unknown, known))


def _absent(key: str | None) -> tuple[dict[str, str], ...]:
    if key is None:
        return ()
    return (
        {
            "code": "no-labels-column",
            "detail": f"The query's obs has no column {key!r}: all cells count as unlabelled.",
            "fix": "Name a column that the query has, or leave labels_key out.",
        },
    )


def _unknown(unknown: dict[str, int], known: tuple[str, ...]) -> tuple[dict[str, str], ...]:
    if not unknown:
        return ()
    shown = listed([f"{name} ({n})" for name, n in unknown.items()], most=5)
    return (
        {
            "code": "unknown-labels",
            "detail": f"{sum(unknown.values()):,} cells have labels that the reference does not "
            f"know: {shown}. They count as unlabelled.",
            "fix": f"The reference knows these labels: {listed(known)}.",
        },
    )
