"""The columns that the caller named with an upload: looked at, and those that are kept chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.cell_filters import names_of
from worker.batches import FEW_CELLS, is_identifier
from worker.confounding import CONFOUNDING_FIX, confounding_told, find_confounding
from worker.intake.findings import Findings
from worker.intake.tables import Table
from worker.names import name_of

KEYS = ("batch_key", "sample_key", "condition_key", "labels_key", "size_factor_key")
SHOWN = 20
Policy = Literal["needed", "listed", "all"]

Named = tuple[np.ndarray[Any, np.dtype[np.int64]], list[str]]
"""The code of every cell, -1 where it has no value, and the name of each code."""


@dataclass(frozen=True)
class DesignRequest:
    """What the caller said of the columns of obs."""

    keys: Mapping[str, tuple[str, ...]]
    """The columns named by each of KEYS."""
    controls: tuple[str, ...] = ()
    policy: Policy = "all"
    keep: tuple[str, ...] = ()

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> DesignRequest:
        return cls(
            keys={key: _columns(options.get(key)) for key in KEYS},
            controls=tuple(options.get("control_values") or ()),
            policy=options.get("obs_policy") or "all",
            keep=tuple(options.get("obs_keep") or ()),
        )


def _columns(given: Any) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given or ())


def choose_columns(obs: Table, request: DesignRequest, findings: Findings) -> list[str]:
    """Leave out of the table the columns that are not to be kept; their names."""
    if request.policy == "all":
        return []
    wanted = {*request.keep, *(name for named in request.keys.values() for name in named)}
    left_out = [column.name for column in obs.columns if column.name not in wanted]
    obs.columns = [column for column in obs.columns if column.name in wanted]
    if left_out:
        findings.tell(
            "columns-not-kept",
            obs.path,
            f"{len(left_out):,} columns are not kept, as obs_policy={request.policy} asks: "
            f"{_shown(left_out)}.",
            "Nothing needs doing. A column that is needed after all must be uploaded again.",
        )
    return left_out


def look_at_design(
    obs: Table, request: DesignRequest, private: frozenset[str], findings: Findings
) -> None:
    """What a mapping with these keys would find, told with the upload.

    Args:
        private: columns whose values are never told.
    """
    _Design(obs, request, private, findings).look()


class _Design:
    """The named columns beside each other."""

    def __init__(
        self, obs: Table, request: DesignRequest, private: frozenset[str], findings: Findings
    ) -> None:
        self.obs, self.request, self.private, self.findings = obs, request, private, findings
        wanted = {name for named in request.keys.values() for name in named}
        self.found = {
            column.name: _named(column.values) for column in obs.columns if column.name in wanted
        }

    def look(self) -> None:
        for key in KEYS:
            for name in self.request.keys[key]:
                if name not in self.found:
                    self._tell_unknown(key, name)
        self._look_at_samples()
        batch_key = self.request.keys["batch_key"]
        batches = None
        if batch_key and all(name in self.found for name in batch_key):
            batches = _joined([self.found[name] for name in batch_key])
            self._look_at_batches(batch_key, batches)
        for name in self.request.keys["condition_key"]:
            if name in self.found:
                self._look_at_condition(name)
                if batches is not None:
                    self._look_for_confounding(name, batches)

    def _pointer(self, name: str) -> str:
        return f"{self.obs.path}/{name}"

    def _tell_unknown(self, key: str, name: str) -> None:
        columns = [column.name for column in self.obs.columns]
        self.findings.tell(
            "unknown-column",
            self._pointer(name),
            f"{key} names {name!r}, and obs has no such column. It has: {_shown(columns)}.",
            f"Name one of these columns as {key} when you map; the file need not be sent again.",
        )

    def _look_at_samples(self) -> None:
        for name in self.request.keys["sample_key"]:
            absent = self._absent(name)
            if absent:
                self.findings.tell(
                    "missing-sample",
                    self._pointer(name),
                    f"{absent:,} cells have no value in obs[{name!r}]; they belong to no sample.",
                    "Fill in the sample of these cells if it is known.",
                )

    def _absent(self, name: str) -> int:
        return int((self.found[name][0] < 0).sum()) if name in self.found else 0

    def _look_at_batches(self, keys: Sequence[str], batches: Named) -> None:
        shown, (codes, names) = _keys_shown(keys), batches
        absent = np.logical_or.reduce([self.found[key][0] < 0 for key in keys])
        if absent.any():
            self.findings.tell(
                "missing-batch",
                self._pointer(keys[0]),
                f"{int(absent.sum()):,} cells have no value in {shown}; they would form a batch "
                "of their own.",
                "Fill in the batch of these cells if it is known: cells of several batches in one "
                "cannot be corrected.",
            )
        if is_identifier(len(names), len(codes)):
            self.findings.tell(
                "too-many-batches",
                self._pointer(keys[0]),
                f"{shown} has {len(names):,} categories for {len(codes):,} cells: it looks like "
                "an identifier of cells, and a mapping refuses it as the batch.",
                "Name the column that says which sample, donor or plate a cell is from.",
            )
            return
        sizes = np.bincount(codes, minlength=len(names))
        few = [f"{names[at]} ({sizes[at]})" for at in np.flatnonzero(sizes < FEW_CELLS)]
        if few:
            examples = "" if self.private & set(keys) else f": {_shown(few, most=5)}"
            self.findings.tell(
                "small-batches",
                self._pointer(keys[0]),
                f"{len(few):,} of {len(names):,} batches of {shown} have fewer than {FEW_CELLS} "
                f"cells{examples}.",
                "So few cells say little about a batch, and a batch effect may remain: name a "
                "coarser column, or read these cells' results with care.",
            )

    def _look_at_condition(self, key: str) -> None:
        absent = self._absent(key)
        if absent:
            self.findings.tell(
                "missing-condition",
                self._pointer(key),
                f"{absent:,} cells have no value in obs[{key!r}]; they belong to no condition.",
                "Fill in the condition of these cells if it is known.",
            )
        present = self.found[key][1]
        strange = sorted(names_of(list(self.request.controls)) - set(present))
        if strange:
            there = "" if key in self.private else f" Its values: {_shown(present)}."
            self.findings.tell(
                "unknown-control-value",
                self._pointer(key),
                f"No cell has {_shown(strange)} in obs[{key!r}].{there}",
                "Name values of this column as control_values when you map, as they are written "
                "in the file.",
            )

    def _look_for_confounding(self, key: str, batches: Named) -> None:
        codes, conditions = self.found[key]
        together = np.unique(np.stack([batches[0], codes]), axis=1)
        found = find_confounding(
            (batches[1][batch], conditions[code] if code >= 0 else None)
            for batch, code in together.T.tolist()
        )
        if found is None:
            return
        names = "not told here" if key in self.private else _shown(found.conditions, most=5)
        batch, condition = _keys_shown(self.request.keys["batch_key"]), f"obs[{key!r}]"
        self.findings.tell(
            "batch-confounded",
            self._pointer(key),
            confounding_told(found, batch=batch, condition=condition, names=names),
            CONFOUNDING_FIX,
        )


def _named(values: pa.Array) -> Named:
    """The values of a column by name: equal names are one value, as they are for a mapping."""
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    coded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    names = np.array([name_of(each) for each in coded.dictionary.to_pylist()], dtype=object)
    used = np.unique(codes[codes >= 0])
    distinct, merged = np.unique(names[used].astype(str), return_inverse=True)
    position = np.full(len(names) + 1, -1, dtype=np.int64)  # the last is for the code -1
    position[used] = merged
    return position[codes], [str(name) for name in distinct]


def _joined(columns: list[Named]) -> Named:
    """One code for each combination; an absent value is a value like others."""
    parts = [np.where(codes < 0, len(names), codes) for codes, names in columns]
    combined, codes = np.unique(np.stack(parts), axis=1, return_inverse=True)
    named = [[*names, "missing"] for _, names in columns]
    joined = [
        "_".join(names[code] for names, code in zip(named, each, strict=True))
        for each in combined.T.tolist()
    ]
    return codes.reshape(-1).astype(np.int64), joined


def _keys_shown(keys: Sequence[str]) -> str:
    return " and ".join(f"obs[{key!r}]" for key in keys)


def _shown(names: Sequence[str], most: int = SHOWN) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + more
