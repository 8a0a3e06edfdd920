"""The rule by which a reference chooses its default recipe from figures of held-out batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from models_store.recipe_evidence import Fold, Trial

FORWARD = "forward"
LEAST_MIXING = 0.95
"""Of what `forward` has, in every fold."""
LEAST_RESPONSE = 0.95
"""Of the best recipe's."""
TIE = 0.005
"""In macro-F1: a difference that decides nothing."""
ELBO_TIE = 2e-4
"""Of the ELBO: less than a fit itself calls a gain (`Recipe.tolerance`)."""


@dataclass(frozen=True)
class Choice:
    """The name of a candidate, None where none will do; and why, for people."""

    recipe: str | None
    reason: str


def choose(folds: Sequence[Fold], candidates: Sequence[str]) -> Choice:
    """The recipe that finds labels best among those that leave cells where the reference has them.

    Args:
        folds: each with the trials of `forward` and of every candidate.
        candidates: their names, first the recipe that moves cells least: of equals it is taken.
    """
    if not any(fold.trials for fold in folds):
        return Choice(None, "The release's: the networks without the held-out batches diverged.")
    able = _keeping(folds, [name for name in candidates if _mixes(folds, name)])
    if not able:
        return Choice(
            None,
            f"The release's: no candidate kept {LEAST_MIXING:.0%} of the mixing of `forward` and "
            f"{LEAST_RESPONSE:.0%} of the best response.",
        )
    what, tie, scores = _scores(folds, able)
    best = max(scores.values())
    chosen = next(name for name, score in scores.items() if score >= best - tie)
    return Choice(
        chosen,
        f"{chosen}, with the best {what} among the {len(able)} of {len(candidates)} candidates "
        "that kept mixing and response.",
    )


def _scores(folds: Sequence[Fold], names: Sequence[str]) -> tuple[str, float, dict[str, float]]:
    """What decides, how much of it is a tie, and each recipe's, in their order."""
    found = {name: score for name in names if (score := _labels_found(folds, name)) is not None}
    if found:
        return "macro-F1 of labels", TIE, found
    gained = {name: _elbo_gained(folds, name) for name in names}
    return "held-out ELBO (no labels are known)", ELBO_TIE * _size_of_elbo(folds), gained


def _trials(folds: Sequence[Fold], name: str) -> Iterator[tuple[Fold, Trial]]:
    return ((fold, trial) for fold in folds for trial in fold.trials if trial.recipe == name)


def _mixes(folds: Sequence[Fold], name: str) -> bool:
    """Every fit came to an end, and all cells of each fold mix nearly as `forward` has them."""
    forward = {fold.batches: t.mixing for fold, t in _trials(folds, FORWARD) if t.cells == "all"}
    trials = list(_trials(folds, name))
    pairs = [(t.mixing, forward[fold.batches]) for fold, t in trials if t.cells == "all"]
    return all(t.elbo is not None for _, t in trials) and all(
        mixing is None or least is None or mixing >= LEAST_MIXING * least for mixing, least in pairs
    )


def _keeping(folds: Sequence[Fold], names: Sequence[str]) -> list[str]:
    """Those that retain the response nearly as well as the best of all recipes, where it is known.

    A diverged fit retains nothing.
    """
    recipes = {trial.recipe for fold in folds for trial in fold.trials}
    best = max(_response(folds, name) or 0.0 for name in recipes)
    return [n for n in names if (_response(folds, n) or 0.0) >= LEAST_RESPONSE * best]


def _response(folds: Sequence[Fold], name: str) -> float | None:
    found = [
        trial.retained_response
        for _, trial in _trials(folds, name)
        if trial.cells == "all" and trial.retained_response is not None
    ]
    return fmean(found) if found else None


def _labels_found(folds: Sequence[Fold], name: str) -> float | None:
    """All cells and samples alike: a recipe must do for small queries as well."""
    found = [t.macro_f1 for _, t in _trials(folds, name) if t.macro_f1 is not None]
    return fmean(found) if found else None


def _elbo_gained(folds: Sequence[Fold], name: str) -> float:
    """From where every recipe of a fold starts, so that it does not matter which cells judge."""
    trials = [trial for _, trial in _trials(folds, name)]
    return fmean((t.elbo or 0.0) - (t.elbo_before or 0.0) for t in trials)


def _size_of_elbo(folds: Sequence[Fold]) -> float:
    found = [abs(t.elbo) for fold in folds for t in fold.trials if t.elbo is not None]
    return fmean(found) if found else 0.0
