"""How far rows are trusted where no reference cells tell: not as far as chance puts them.

A reference that was imported without its cells cannot show where a batch lies nearest to them
(`worker.restraint`), and a recipe may not ask it to.

Rows that are fitted to a few cells come to lie at a distance from their start even where the batch
is shifted by nothing: any cells that the reference was not trained on suggest some shift. Labels
then are better near the start, and far from it where the shift is large. So rows w are shrunk,

    w₀ + max(0, 1 - (a / s)² min(1, 50 / n)) (w - w₀)

with s their distance from the start w₀, a that which chance gives to a batch of at most 50 cells,
and n the cells: the positive-part estimator of James and Stein (1961; Efron and Morris 1973), with
variances that fall as 1 / n. Decision 0065 has the figures.
"""

FEW_CELLS = 50


def trusted_share(distance: float, n_cells: int, by_chance: float) -> float:
    """The share of the way from the start that rows go.

    Args:
        distance: theirs from the start, in units of the reference's own spread between batches.
        n_cells: that they were fitted to, at least one.
        by_chance: `Recipe.chance_distance`.
    """
    if distance == 0.0:
        return 1.0
    return max(0.0, 1.0 - (by_chance / distance) ** 2 * min(1.0, FEW_CELLS / n_cells))
