"""Why a reference version has its default recipe: what candidates did on batches held out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from models_store.recipe import RECIPES, Recipe


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Trial(_Frozen):
    """One recipe on the cells of one fold, mapped as a query is."""

    recipe: str
    """`forward`, or one of the evidence's candidates."""
    cells: Literal["all", "sample"]
    """Every held-out cell, or a few of them, as of a small query."""
    n_cells: int
    macro_f1: float | None = None
    """Of labels found among the neighbours in the rest; None: no held-out cell has one of them."""
    mixing: float | None = None
    """Share of the rest's cells around held-out cells, relative to chance; only cells count whose
    label occurs in the rest. None: there are none."""
    retained_response: float | None = None
    """Mean AUROC of one condition against another within each label; None: no condition column, or
    too few cells of each."""
    elbo_before: float | None = None
    elbo: float | None = None
    """Mean ELBO per cell in nats on the cells that the fit held out, at its start and at its end;
    None: it diverged, or no cell has counts."""
    seconds: float


class Fold(_Frozen):
    """A network of the same sizes that never saw these batches, and what became of them."""

    batches: tuple[str, ...]
    n_cells: int
    """Held out."""
    n_training_cells: int
    seconds: float
    """Of the network's training."""
    trials: tuple[Trial, ...]


class RecipeEvidence(_Frozen):
    """The figures by which the default recipe was chosen, or why there are none."""

    reason: str
    """One sentence for people."""
    chosen: str | None = None
    """The candidate; None: the release's default."""
    candidates: Mapping[str, Recipe] = {}
    folds: tuple[Fold, ...] = ()
    seconds: float | None = None
    """Of the whole search."""

    @property
    def recipe(self) -> Recipe:
        """The one that was chosen, or the release's default."""
        return RECIPES["default"] if self.chosen is None else self.candidates[self.chosen]

    def fields(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {"default_recipe": self.recipe, "recipe_evidence": self}
