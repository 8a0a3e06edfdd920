"""From a query's obs columns to the category codes that a reference's layers look up."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from app.problems import UnknownBatchColumn, UnknownCovariate, UnknownLabelsColumn
from models_store.manifest import Covariate, Manifest

Codes = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]

MISSING = "missing"
"""The category of cells whose value is absent."""
LONE_BATCH = "query"
"""The one batch of a query that names no batch column."""
QUERY_SUFFIX = "-query"
JOINT = "_"


@dataclass(frozen=True)
class Group:
    """Cells that are fitted together: one new batch, or all cells where new categories of
    further covariates couple the batches."""

    name: str
    cells: Codes
    n_new: tuple[int, ...]
    batches: tuple[str, ...]


@dataclass(frozen=True)
class QueryDesign:
    """Codes and numbers of every cell, under the reference's covariates and those added to them."""

    codes: tuple[Codes, ...]
    """For the batch and each extra covariate; new categories follow the reference's."""
    new_categories: tuple[tuple[str, ...], ...]
    renamed: Mapping[str, str]
    """Query batches that share a reference batch's name, and what they are called here."""
    continuous: Float32 | None
    labels: Codes | None
    size_factor: Float32 | None
    warnings: tuple[dict[str, str], ...] = field(default=())

    @property
    def n_new(self) -> tuple[int, ...]:
        return tuple(len(names) for names in self.new_categories)

    @property
    def is_coupled(self) -> bool:
        return any(self.n_new[1:])

    def groups(self, n_reference_batches: int) -> list[Group]:
        """What is fitted together. Cells of reused reference batches need no fit."""
        batches = self.new_categories[0]
        if self.is_coupled:
            everyone = np.arange(len(self.codes[0]))
            return [Group("all batches", everyone, self.n_new, batches)]
        others = (0,) * (len(self.codes) - 1)
        return [
            Group(
                name,
                np.flatnonzero(self.codes[0] == n_reference_batches + i),
                (1, *others),
                (name,),
            )
            for i, name in enumerate(batches)
        ]


def design_query(
    obs: pd.DataFrame,
    manifest: Manifest,
    *,
    batch_key: Sequence[str] | None,
    labels_key: str | None = None,
    reuse_batches: bool = False,
    size_factor_key: str | None = None,
) -> QueryDesign:
    """Resolve every covariate of the reference in the query's obs.

    Columns bear the names that the reference knows, unless a key names another.

    Raises:
        UnknownBatchColumn: a batch column that obs lacks.
        UnknownCovariate: a covariate that the reference needs and obs lacks, or not numbers.
        UnknownLabelsColumn: a labels column that obs lacks.
    """
    batch, renamed = _batch_values(obs, manifest.batch, batch_key, reuse_batches)
    coded = [_code(batch, manifest.batch.categories)]
    coded += [
        _code(_column(obs, covariate), covariate.categories)
        for covariate in manifest.extra_covariates
    ]
    continuous = [_numbers(obs, key) for key in manifest.continuous_covariates]
    return QueryDesign(
        codes=tuple(codes for codes, _ in coded),
        new_categories=tuple(new for _, new in coded),
        renamed=renamed,
        continuous=np.stack(continuous, axis=1) if continuous else None,
        labels=_labels(obs, manifest, labels_key),
        size_factor=_size_factor(obs, manifest, size_factor_key),
    )


def category_names(values: pd.Series) -> pd.Series:
    """Values as category names: numbers become strings, absent values one named category."""
    names = values.astype(object).map(str)
    names[values.isna().to_numpy()] = MISSING
    return names


def _batch_values(
    obs: pd.DataFrame, batch: Covariate, keys: Sequence[str] | None, reuse: bool
) -> tuple[pd.Series, dict[str, str]]:
    if not keys:
        values = pd.Series(LONE_BATCH, index=obs.index, dtype=object)
    else:
        absent = [key for key in keys if key not in obs.columns]
        if absent:
            raise UnknownBatchColumn(
                f"The query's obs has no column {absent[0]!r}. It has: {_listed(obs.columns)}.",
                fix="Name one of these columns as batch_key, or leave batch_key out to treat the "
                "whole query as one batch.",
                errors=[{"pointer": f"/obs/{key}", "detail": "no such column"} for key in absent],
            )
        values = _joined([category_names(obs[key]) for key in keys])
    if reuse:
        return values, {}
    return _renamed(values, set(batch.categories))


def _joined(columns: list[pd.Series]) -> pd.Series:
    """One name for each combination: two samples never become one because their names run on."""
    combined = pd.Series(list(zip(*columns, strict=True)), index=columns[0].index, dtype=object)
    joined = combined.map(JOINT.join)
    if joined.nunique() < combined.nunique():
        return combined.map(lambda names: json.dumps(names, ensure_ascii=False))
    return joined


def _renamed(values: pd.Series, taken: set[str]) -> tuple[pd.Series, dict[str, str]]:
    """A query batch that happens to be called like a reference batch is a new one all the same."""
    present = set(values.unique())
    renamed: dict[str, str] = {}
    for name in sorted(present & taken):
        new = name + QUERY_SUFFIX
        while new in taken or new in present or new in renamed.values():
            new += QUERY_SUFFIX
        renamed[name] = new
    return values.replace(renamed), renamed


def _code(values: pd.Series, reference: Sequence[str]) -> tuple[Codes, tuple[str, ...]]:
    new = tuple(sorted(set(values.unique()) - set(reference)))
    position = {name: code for code, name in enumerate((*reference, *new))}
    return values.map(position).to_numpy(dtype=np.int64), new


def _column(obs: pd.DataFrame, covariate: Covariate) -> pd.Series:
    if covariate.key is None or covariate.key not in obs.columns:
        raise UnknownCovariate(
            f"The reference was trained with the covariate {covariate.key!r}, and the query's obs "
            "has no such column.",
            fix=f"Add obs[{covariate.key!r}]. The reference knows these values, and new ones are "
            f"learnt: {_listed(covariate.categories)}.",
            errors=[{"pointer": f"/obs/{covariate.key}", "detail": "no such column"}],
        )
    return category_names(obs[covariate.key])


def _numbers(obs: pd.DataFrame, key: str) -> Float32:
    numbers = pd.to_numeric(obs[key], errors="coerce") if key in obs.columns else None
    if numbers is None or not np.isfinite(numbers.to_numpy(dtype=float, na_value=np.nan)).all():
        raise UnknownCovariate(
            f"The reference needs a number for every cell in obs[{key!r}].",
            fix=f"Add obs[{key!r}] with a finite number for each cell, on the reference's scale.",
            errors=[{"pointer": f"/obs/{key}", "detail": "absent, or not a number in every cell"}],
        )
    return numbers.to_numpy(dtype=np.float32)


def _size_factor(obs: pd.DataFrame, manifest: Manifest, key: str | None) -> Float32 | None:
    if manifest.size_factor_key is None:
        return None
    named = key or manifest.size_factor_key
    numbers = _numbers(obs, named)
    if not (numbers > 0).all():
        raise UnknownCovariate(
            f"The size factors in obs[{named!r}] are not all above zero.",
            fix="Give every cell a positive size factor.",
        )
    return numbers


def _labels(obs: pd.DataFrame, manifest: Manifest, key: str | None) -> Codes | None:
    """Label codes; the number of labels stands for an unknown one."""
    if key is not None and key not in obs.columns:
        raise UnknownLabelsColumn(
            f"The query's obs has no column {key!r}. It has: {_listed(obs.columns)}.",
            fix="Name one of these columns as labels_key, or leave labels_key out.",
            errors=[{"pointer": f"/obs/{key}", "detail": "no such column"}],
        )
    if manifest.architecture.dispersion != "gene-label" or not manifest.labels:
        return None
    known = manifest.labels[0].categories
    if key is None:
        return np.full(len(obs), len(known), dtype=np.int64)
    position = {name: code for code, name in enumerate(known)}
    codes = category_names(obs[key]).map(position).fillna(len(known))
    return np.asarray(codes, dtype=np.int64)


def _listed(names: Sequence[object] | pd.Index, most: int = 20) -> str:
    shown = ", ".join(str(name) for name in list(names)[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
