"""What one gene is called: identifiers, prefixes of genomes, versions, spellings of one name."""

from __future__ import annotations

import re
from typing import Literal

NO_NAME = ""
"""What a gene column holds for a gene that it has no name for: it matches nothing."""

NameKind = Literal["ensembl", "symbols", "transcripts", "numbers", "intervals", "other"]

ENSEMBL_GENE = re.compile(r"(ENS[A-Z]{0,8}G)(\d+)(\.\d+)?(_PAR_Y)?", re.IGNORECASE)
_ENSEMBL_AND_SYMBOL = re.compile(r"(ENS[A-Z]{0,8}G\d{11})(?:\.\d+)?[_|;:/ ]+(\S+)", re.IGNORECASE)
_SYMBOL_AND_ENSEMBL = re.compile(r"(\S+?)[_|;:/ ]+(ENS[A-Z]{0,8}G\d{11})(?:\.\d+)?", re.IGNORECASE)
_TRANSCRIPT = re.compile(r"ENS[A-Z]{0,8}[TP]\d{6,}(\.\d+)?|[NX][MRP]_\d{5,}(\.\d+)?", re.IGNORECASE)
_NUMBER = re.compile(r"[\d.,]+")
_INTERVAL = re.compile(r"\S+?[:_-]\d{3,}[-_:]\d{3,}")
_SYMBOL = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9][\w.\-@:/()+*'|]{0,60}")
MADE_UNIQUE = re.compile(r"(.+)[-.]\d{1,3}")
"""What `var_names_make_unique` and R's `make.unique` do to a name that came before."""

GENOME_SPECIES = {
    **dict.fromkeys(("hg18", "hg19", "hg38", "grch37", "grch38", "human", "hsapiens"), "human"),
    **dict.fromkeys(
        ("mm9", "mm10", "mm39", "grcm38", "grcm39", "mouse", "mmusculus"),
        "mouse",
    ),
    **dict.fromkeys(("rn5", "rn6", "rn7", "rnor6", "mratbn7", "rat"), "rat"),
    **dict.fromkeys(("danrer10", "danrer11", "grcz10", "grcz11", "zebrafish"), "zebrafish"),
    **dict.fromkeys(("mmul10", "mmul_10", "rhemac10", "macaque"), "macaque"),
    **dict.fromkeys(("sscrofa11", "pig"), "pig"),
}
"""Genomes whose names are put before those of genes, in small letters."""

_RELEASE = r"(?:[-_.]?(?:\d{4}-[a-z]|premrna|pre-mrna))?"
# Cell Ranger pads prefixes of two genomes to one length (`mm10___Actb` beside `GRCh38_ACTB`), and
# Seurat turns underscores into dashes.
GENOME_PREFIX = re.compile(
    rf"(?:({'|'.join(sorted(GENOME_SPECIES, key=len, reverse=True))}){_RELEASE}[_\-|:]+)+",
    re.IGNORECASE,
)
SHARED_PREFIX = re.compile(r"([A-Za-z][A-Za-z0-9.\-]*)_+(?=[A-Za-z])")
"""What may be the prefix of a genome that is not in the table, where very many names have it."""

_SPELT_ALIKE = str.maketrans("._", "--")


def plain_names(name: str, others: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """The names that a gene has beside all that only the file added.

    Without spaces around it, the prefix of a genome, and the version of an Ensembl id, which is in
    capitals. An id and a symbol in one name are two. `AL627309.1` keeps its `.1`: that is no
    version, and `_PAR_Y` stays, because it is another gene.

    Args:
        name: as the file has it.
        others: further prefixes to take off.
    """
    text, _ = without_genome(name.strip(), others)
    if "ENS" not in text.upper():
        return (text,)
    if found := ENSEMBL_GENE.fullmatch(text):
        return (f"{found[1]}{found[2]}{found[4] or ''}".upper(),)
    if found := _ENSEMBL_AND_SYMBOL.fullmatch(text):
        return found[1].upper(), found[2]
    if found := _SYMBOL_AND_ENSEMBL.fullmatch(text):
        return found[2].upper(), found[1]
    return (text,)


def without_genome(name: str, others: frozenset[str] = frozenset()) -> tuple[str, str | None]:
    """A name without the prefix of a genome, and the prefix's genome in small letters, if any."""
    found = GENOME_PREFIX.match(name)
    if found and found.end() < len(name):
        return name[found.end() :], found[1].lower()
    if others and (found := SHARED_PREFIX.match(name)) and found[1] in others:
        return name[found.end() :], found[1].lower()
    return name, None


def spelling(name: str) -> str:
    """What names have in common that differ in case, or in dots and dashes as R writes them."""
    return name.upper().translate(_SPELT_ALIKE)


def kind_of_name(name: str) -> NameKind:
    """What kind of identifier a plain name is, by its form alone."""
    for kind, pattern in _KINDS.items():
        if pattern.fullmatch(name):
            return kind
    return "other"


_KINDS: dict[NameKind, re.Pattern[str]] = {
    "ensembl": ENSEMBL_GENE,
    "transcripts": _TRANSCRIPT,
    "numbers": _NUMBER,
    "intervals": _INTERVAL,
    "symbols": _SYMBOL,
}
