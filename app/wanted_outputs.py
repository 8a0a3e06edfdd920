"""What of its decoder's values a mapping was asked for, held against the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.problems import UnknownOutput
from models_store.feature_kinds import FeatureKind
from models_store.manifest import Manifest
from models_store.outputs import FEATURES_OF, OUTPUTS_OF, OutputName

ALL_BY_DEFAULT = "protein"
"""Panels have few proteins; of genes and regions those that are wanted must be named."""


@dataclass(frozen=True)
class WantedOutput:
    """One file: which output, of which features, decoded into which batch."""

    output: OutputName
    features: tuple[str, ...]
    columns: tuple[int, ...]
    """Positions of the features among all of their kind."""
    batch: int | None
    """The code of a batch of the reference; None: each cell's own."""

    @property
    def file(self) -> str:
        return f"{self.output}.parquet"


def outputs_of(manifest: Manifest) -> tuple[OutputName, ...]:
    """What this version can decode."""
    panel = manifest.genes.counts()
    return tuple(each for each in OUTPUTS_OF[manifest.kind] if panel[FEATURES_OF[each]])


def wanted_outputs(options: Mapping[str, Any], manifest: Manifest) -> list[WantedOutput]:
    """What the options ask for, held against the reference.

    Raises:
        UnknownOutput: the reference has no such output, feature or batch, or one comes twice.
    """
    asked: list[dict[str, Any]] = options.get("outputs") or []
    names = [each["output"] for each in asked]
    given = outputs_of(manifest)
    for at, each in enumerate(asked):
        if each["output"] not in given:
            raise _refused(
                f"The reference, of kind {manifest.kind.upper()}, gives no {each['output']}; it "
                f"gives {', '.join(given)}.",
                at,
                "output",
                fix="Ask for one of these, or leave the output out.",
            )
        if names.index(each["output"]) != at:
            raise _refused(
                f"{each['output']} is asked for twice.",
                at,
                "output",
                fix="Ask for each output once, with all features in one list.",
            )
    return [_wanted(each, at, manifest) for at, each in enumerate(asked)]


def _wanted(asked: dict[str, Any], at: int, manifest: Manifest) -> WantedOutput:
    kind = FEATURES_OF[asked["output"]]
    known = manifest.genes.ids[manifest.genes.slices()[kind]]
    features = tuple(dict.fromkeys(asked.get("features") or ()))
    if not features and kind != ALL_BY_DEFAULT:
        raise _refused(
            f"{asked['output']} needs the names of {kind}s.",
            at,
            "features",
            fix="List them in `features`, as the reference names them.",
        )
    where = _places(features or known, kind, manifest)
    if absent := [name for name, at_ in where.items() if at_ is None]:
        raise _refused(
            f"The reference has no {kind} named {', '.join(absent[:5])}"
            f"{f' and {len(absent) - 5} more' if len(absent) > 5 else ''}.",
            at,
            "features",
            fix=f"GET /v1/references/{manifest.name}/versions/{manifest.version}/genes lists them.",
        )
    columns = tuple(position for position in where.values() if position is not None)
    return WantedOutput(asked["output"], tuple(where), columns, _batch(asked, at, manifest))


def _places(
    features: Sequence[str], kind: FeatureKind, manifest: Manifest
) -> dict[str, int | None]:
    """Where each stands among all of its kind: by its id, else by a name that one alone has."""
    run = manifest.genes.slices()[kind]
    found: dict[str, int | None] = dict.fromkeys(features)
    for names in manifest.genes.columns().values():
        where: dict[str, int | None] = {}
        for at, name in enumerate(names[run]):
            where[name] = None if name in where else at
        found = {name: where.get(name) if at is None else at for name, at in found.items()}
    return found


def _batch(asked: dict[str, Any], at: int, manifest: Manifest) -> int | None:
    name, known = asked.get("batch"), manifest.batch.categories
    if name is None:
        return None
    if name not in known:
        raise _refused(
            f"The reference has no batch {name!r}; it has {', '.join(known[:10])}"
            f"{' and more' if len(known) > 10 else ''}.",
            at,
            "batch",
            fix="Name one of them, or leave `batch` out.",
        )
    return known.index(name)


def _refused(sentence: str, at: int, field: str, *, fix: str) -> UnknownOutput:
    errors = [{"pointer": f"/outputs/{at}/{field}", "detail": sentence}]
    return UnknownOutput(sentence, fix=fix, errors=errors)
