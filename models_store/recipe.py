"""How query weights are fitted: the recipe, and the recipes that have a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

RecipeName = Literal["default", "converged", "scvi-tools", "forward"]


class Recipe(BaseModel):
    """How query weights are fitted. Every number that can change a latent is here.

    The named recipes are in `RECIPES`; a manifest carries its own default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: RecipeName
    start: Literal["mean", "random"] = "mean"
    """`mean`: the mean of the covariate's reference rows; `random`: as scvi-tools draws."""
    penalty: float = Field(default=0.0, ge=0)
    """Strength of the Gaussian prior around the mean reference row: 1 is as wide as the reference's
    own rows spread, weighed against the cells of the batch; 0 is none."""
    penalty_cells: int | None = Field(default=None, gt=0)
    """So many cells are what the prior is weighed against, however many the batch has. None: those
    of the batch, so that more of them outweigh it."""
    learning_rate: float = Field(default=1e-3, gt=0)
    adam_eps: float = Field(default=1e-8, gt=0)
    minibatch_size: int = Field(default=128, gt=0)
    max_epochs: int | None = Field(default=None, ge=0)
    """None: scvi-tools' heuristic, min(round(400 x 20000 / cells), 400), at least 1."""
    kl_warmup_epochs: int = Field(default=0, ge=0)
    """KL weight rises linearly over so many epochs (epoch e has e / warmup); 0: it is 1."""
    held_out: float = Field(default=0.0, ge=0, lt=1)
    """Share of a batch's cells kept aside to tell when to stop; 0: the fixed epoch count."""
    patience: int = Field(default=0, ge=0)
    """Evaluations without a better held-out ELBO before the fit slows down, and at last ends."""
    tolerance: float = Field(default=2e-4, ge=0)
    """Relative gain in the held-out ELBO that counts as better."""
    sample_size: int | None = Field(default=None, gt=0)
    """Cells of a batch that training sees; None: all."""
    chance_distance: float = Field(default=0.0, ge=0)
    """How far from their start the rows of a batch of few cells come to lie by chance, in units of
    the reference's own spread: they are shrunk by it (`worker.shrinkage`). 0: not at all. With
    `to_nearest` only where the reference came without its cells."""
    to_nearest: bool = False
    """Whether rows go no further than to where the batch's cells lie nearest to the reference's
    (`worker.restraint`)."""
    mixing_kept: float = Field(default=0.0, ge=0, le=1)
    """Share of the mixing with reference cells that a batch has at the start, and that its rows
    must leave it: they are taken so far only (`worker.restraint`). 0: all the way, as they are
    where the reference came without its cells."""

    def cells_beside_prior(self, n_cells: int) -> int:
        """The cells that the prior is weighed against, of a batch with `n_cells`."""
        return self.penalty_cells or n_cells


RECIPES: Mapping[RecipeName, Recipe] = {
    "default": Recipe(
        name="default",
        penalty=0.1,
        penalty_cells=1000,
        learning_rate=0.1,
        minibatch_size=256,
        max_epochs=400,
        held_out=0.1,
        patience=2,
        sample_size=10_000,
        chance_distance=4.0,
        to_nearest=True,
        mixing_kept=1.0,
    ),
    "converged": Recipe(
        name="converged",
        learning_rate=0.05,
        minibatch_size=128,
        max_epochs=400,
        held_out=0.1,
        patience=20,
        tolerance=1e-5,
        sample_size=20_000,
    ),
    "scvi-tools": Recipe(
        name="scvi-tools", start="random", adam_eps=0.01, minibatch_size=128, kl_warmup_epochs=400
    ),
    "forward": Recipe(name="forward", max_epochs=0),
}

CANDIDATES: tuple[Recipe, ...] = tuple(
    RECIPES["default"].model_copy(update={"penalty": penalty})
    for penalty in (1.0, 0.3, 0.1, 0.03, 0.0)
)
"""What a reference chooses its default from, the recipe that moves cells least first: of recipes
that do as well, the first is taken (decision 0064)."""


def told_apart(recipes: Sequence[Recipe]) -> dict[str, Recipe]:
    """The recipes by a short text of each: the values in which they differ, as `penalty 0.3`."""
    told = [recipe.model_dump() for recipe in recipes]
    differ = [field for field in told[0] if len({str(each[field]) for each in told}) > 1]
    names = [", ".join(f"{field} {each[field]}" for field in differ) for each in told]
    return {name or recipe.name: recipe for name, recipe in zip(names, recipes, strict=True)}
