"""What of its decoder's values a mapping was asked for, held against the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.problems import UnknownOutput
from models_store.cvae import CVAE
from models_store.manifest import Manifest
from models_store.outputs import FEATURES_OF, OutputName

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


def wanted_outputs(options: dict[str, Any], manifest: Manifest, cvae: CVAE) -> list[WantedOutput]:
    """What the options ask for, held against the reference.

    Raises:
        UnknownOutput: the reference has no such output, feature or batch, or one comes twice.
    """
    asked: list[dict[str, Any]] = options.get("outputs") or []
    names = [each["output"] for each in asked]
    panel = manifest.genes.counts()
    given = [output for output in cvae.outputs if panel[FEATURES_OF[output]]]
    for at, each in enumerate(asked):
        if each["output"] not in given:
            raise _refused(
                f"The reference, of kind {manifest.kind}, gives no {each['output']}; it gives "
                f"{', '.join(given)}.",
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
    features = features or known
    where = {name: position for position, name in enumerate(known)}
    if absent := [name for name in features if name not in where]:
        raise _refused(
            f"The reference has no {kind} named {', '.join(absent[:5])}"
            f"{f' and {len(absent) - 5} more' if len(absent) > 5 else ''}.",
            at,
            "features",
            fix="GET /v1/references/NAME/versions/VERSION/genes lists them.",
        )
    columns = tuple(where[name] for name in features)
    return WantedOutput(asked["output"], features, columns, _batch(asked, at, manifest))


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
