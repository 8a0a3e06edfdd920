"""How one region or one protein is spelt: what files add to a name, taken off to compare it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from models_store.gene_names import MADE_UNIQUE

Key = Callable[[str], str]
"""What names that mean one thing have in common; empty where a name says nothing so."""

_INTERVAL = re.compile(r"(?:chr)?(\S+?)[:_-](\d+)[-_:](\d+)", re.IGNORECASE)
_BESIDE = r"adt|ab|prot|protein|totalseq[-_ ]?[abcd]?"
_ADDED = re.compile(rf"(?:(?:{_BESIDE})[-_.:| ]+)?(.+?)(?:[-_.:| ]+(?:{_BESIDE}))?")
_MITOCHONDRIAL = {"m": "mt"}


def interval(name: str) -> str:
    """The place of a region, as `1:100-200` for `chr1-100-200`; empty for what is no interval.

    Genome browsers, Seurat and Ensembl write the same place in different ways; nothing is said of
    the build of the genome, and places that merely overlap are different ones.
    """
    found = _INTERVAL.fullmatch(name.strip())
    if found is None:
        return ""
    chromosome = found[1].casefold()
    return f"{_MITOCHONDRIAL.get(chromosome, chromosome)}:{int(found[2])}-{int(found[3])}"


def protein_key(others: Collection[str]) -> Key:
    """The name of a protein without what tells antibodies from genes, in small letters.

    `CD3_TotalSeqB`, `ADT-CD3` and `CD3-protein` are `cd3`; so is `CD3-1` where another feature of
    the same file is called `CD3`, as `var_names_make_unique` has it.

    Args:
        others: what the features of the file are called that are no proteins.
    """

    def key(name: str) -> str:
        repeat = MADE_UNIQUE.fullmatch(name.strip())
        plain = repeat[1] if repeat and repeat[1] in others else name.strip()
        found = _ADDED.fullmatch(plain.casefold())
        return found[1] if found else plain.casefold()

    return key
