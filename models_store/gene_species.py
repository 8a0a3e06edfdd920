"""Which species gene names are of: by Ensembl's prefix, the genome, or how they are written."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from models_store.gene_names import ENSEMBL_GENE, GENOME_SPECIES

ENSEMBL_SPECIES = {
    "ENSG": "human",
    "ENSMUSG": "mouse",
    "ENSRNOG": "rat",
    "ENSDARG": "zebrafish",
    "ENSMMUG": "macaque",
    "ENSMFAG": "crab-eating macaque",
    "ENSPTRG": "chimpanzee",
    "ENSCJAG": "marmoset",
    "ENSSSCG": "pig",
    "ENSBTAG": "cow",
    "ENSOARG": "sheep",
    "ENSECAG": "horse",
    "ENSCAFG": "dog",
    "ENSFCAG": "cat",
    "ENSOCUG": "rabbit",
    "ENSCGRG": "hamster",
    "ENSGALG": "chicken",
    "ENSXETG": "frog",
}
LATIN = {
    "homo sapiens": "human",
    "mus musculus": "mouse",
    "rattus norvegicus": "rat",
    "danio rerio": "zebrafish",
    "macaca mulatta": "macaque",
    "sus scrofa": "pig",
    "ncbitaxon:9606": "human",
    "ncbitaxon:10090": "mouse",
    "ncbitaxon:10116": "rat",
    "ncbitaxon:7955": "zebrafish",
}
Convention = Literal["UPPER", "Title", "lower"]
CONVENTIONS: dict[str, Convention] = {
    **dict.fromkeys(("mouse", "rat", "hamster"), "Title"),
    **dict.fromkeys(("zebrafish", "frog"), "lower"),
}
"""How symbols of a species are written where that is not in capitals."""

FEWEST_NAMES = 20
"""Fewer names tell no species by how they are written."""
PARTLY = 0.2
FEWEST_MARKS = 5

_UPPER = re.compile(r"[A-Z][A-Z0-9\-.]*[A-Z][A-Z0-9\-.]*|C[0-9XY]+orf\d+\S*|[A-Z]\d+")
_TITLE = re.compile(r"[A-Z][a-z0-9\-.]*[a-z][a-z0-9\-.]*|mt-[A-Z]\S*|\d+[A-Z]\d+Rik|H2-\S+")
# Clones and loci are in capitals in every species.
_NO_SIGN = re.compile(r"LOC\d+|A[A-Z]+\d{5,}\.\d+|RP\d+-\S+|CT[ABCD]-\S+")
_HUMAN_MARK = re.compile(r"LINC\d+|HLA-\S+|C[0-9XY]+(ORF|orf)\d+|A[CLP]\d{6}\.\d+|RP11-\S+")
_MOUSE_MARK = re.compile(r"GM\d{3,}|\d{7}[A-Z]\d\dRIK|H2-[A-Z]\S*", re.IGNORECASE)
_FISH_MARK = re.compile(r"si:\S+|zgc:\d+|im:\d+", re.IGNORECASE)
_MARKS = {"human": _HUMAN_MARK, "mouse": _MOUSE_MARK, "zebrafish": _FISH_MARK}

Sign = Literal["identifiers", "genome", "marks", "spelling", "manifest"]
SIGNS: tuple[Sign, ...] = ("identifiers", "genome", "marks", "spelling", "manifest")
"""What tells a species, the surest first."""


@dataclass(frozen=True)
class Species:
    """A species, and what tells it: a spelling tells only kinds of spelling apart."""

    name: str
    told_by: Sign

    @property
    def convention(self) -> Convention:
        """How its symbols are written."""
        return CONVENTIONS.get(self.name, "UPPER")


def species_of(names: Sequence[str], genomes: Iterable[str] = ()) -> tuple[Species, ...]:
    """The species that gene names are of, several for a mixture; none where nothing tells.

    Args:
        names: plain names, as `models_store.gene_names.plain_names` gives them.
        genomes: of the prefixes that were taken off, in small letters.
    """
    found = _by_ensembl(names)
    if found:
        return found
    named = dict.fromkeys(GENOME_SPECIES[each] for each in genomes if each in GENOME_SPECIES)
    if named:
        return tuple(Species(name, "genome") for name in named)
    return _by_spelling(names)


def declared_species(text: str | None) -> tuple[Species, ...]:
    """What a manifest says of the species, where that is a name known here."""
    said = (text or "").strip().lower().replace("_", " ")
    name = LATIN.get(said) or GENOME_SPECIES.get(said)
    return (Species(name, "manifest"),) if name else ()


def differ(query: Sequence[Species], reference: Sequence[Species]) -> bool:
    """Whether both are known, and no species of the query may be one of the reference."""
    return bool(query and reference) and not any(
        may_be_same(mine, theirs) for mine in query for theirs in reference
    )


def may_be_same(one: Species, other: Species) -> bool:
    """Whether two guesses may mean one species."""
    if one.name == other.name:
        return True
    return "spelling" in (one.told_by, other.told_by) and one.convention == other.convention


def surely_same(query: Sequence[Species], reference: Sequence[Species]) -> bool:
    """Whether both are one species, by more than how the names of both are written."""
    if not len(query) == len(reference) == 1 or query[0].name != reference[0].name:
        return False
    return query[0].told_by != "spelling" or reference[0].told_by != "spelling"


def convention_of(symbol: str) -> Convention | None:
    """How one symbol is written; None where its letters do not tell."""
    if _NO_SIGN.fullmatch(symbol):
        return None
    if _UPPER.fullmatch(symbol):
        return "UPPER"
    return "Title" if _TITLE.fullmatch(symbol) else None


def _by_ensembl(names: Sequence[str]) -> tuple[Species, ...]:
    found = Counter(
        match[1].upper()
        for name in names
        if name.startswith("ENS") and (match := ENSEMBL_GENE.fullmatch(name))
    )
    n = found.total()
    if n < PARTLY * len(names):
        return ()
    return tuple(
        Species(ENSEMBL_SPECIES.get(prefix, f"of {prefix} identifiers"), "identifiers")
        for prefix, number in found.most_common()
        if number >= PARTLY * n
    )


def _by_spelling(names: Sequence[str]) -> tuple[Species, ...]:
    written = Counter(convention_of(name) for name in names)
    upper, title = written["UPPER"], written["Title"]
    if min(upper, title) >= max(1, PARTLY * (upper + title)):
        enough = upper + title >= FEWEST_NAMES
        return (Species("human", "spelling"), Species("mouse", "spelling")) if enough else ()
    # Capitals may be those of another species' symbols, changed by hand; small letters as well.
    if title <= upper and (marked := _marked(names)) is not None:
        return (Species(marked, "marks"),)
    if upper + title < FEWEST_NAMES:
        return ()
    return (Species("human" if upper > title else "mouse", "spelling"),)


def _marked(names: Sequence[str]) -> str | None:
    """The species that has symbols of a form that others lack."""
    marks = {
        species: sum(bool(mark.fullmatch(name)) for name in names)
        for species, mark in _MARKS.items()
    }
    most = max(marks, key=marks.__getitem__)
    return most if marks[most] >= FEWEST_MARKS else None
