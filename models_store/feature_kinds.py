"""What a feature is: a gene, a region of chromatin, a protein, or what no network sees."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

FeatureKind = Literal["gene", "region", "protein"]
KINDS: tuple[FeatureKind, ...] = ("gene", "region", "protein")
"""In the order in which a panel has them."""

WORDS: dict[str, FeatureKind] = {
    **dict.fromkeys(("gene expression", "gene", "genes", "rna", "gex", "mrna"), "gene"),
    **dict.fromkeys(("peaks", "peak", "region", "regions", "atac", "atac seq"), "region"),
    **dict.fromkeys(("chromatin accessibility", "accessibility"), "region"),
    **dict.fromkeys(
        ("antibody capture", "antibody", "antibodies", "protein", "proteins"), "protein"
    ),
    **dict.fromkeys(("prot", "adt", "cite", "cite seq", "protein expression"), "protein"),
}
"""What files call features of each kind, in small letters and with spaces between words."""
TYPES: dict[FeatureKind, str] = {
    "gene": "Gene Expression",
    "region": "Peaks",
    "protein": "Antibody Capture",
}
"""What Cell Ranger calls them, and a canonical query where its file says nothing."""


def kind_of_word(word: str) -> FeatureKind | None:
    """The kind that a word stands for, in any case of letters and with `_`, `-` or a space between
    its parts; None for any other word."""
    return WORDS.get(" ".join(re.split(r"[\s_-]+", word.strip().lower())))


def kinds_of(types: Sequence[str]) -> list[FeatureKind | None]:
    """The kind of every feature by its type; None for what is neither, such as guides.

    A feature without a type is a gene. Where no type is that of genes, the column may hold kinds of
    genes (`protein_coding`, `lncRNA`): words that stand for no kind are then genes too.
    """
    found = [kind_of_word(each) for each in types]
    has_genes = "gene" in found
    return [
        kind or (None if has_genes and each.strip() else "gene")
        for kind, each in zip(found, types, strict=True)
    ]
