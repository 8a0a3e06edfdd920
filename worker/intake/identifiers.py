"""What the gene names of a file are: said of every column that may hold them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from models_store.gene_columns import GeneColumn, QueryGenes
from worker.intake.findings import Findings

EXAMPLES = 3
FEWEST = 20
"""Fewer names than these are too few to say that they are no gene names."""
WORDS = {
    "ensembl": "Ensembl ids",
    "symbols": "symbols",
    "mixed": "Ensembl ids and symbols",
    "transcripts": "transcripts or proteins",
    "numbers": "numbers",
    "intervals": "intervals of a genome",
    "other": "names of no kind that is known here",
    "empty": "no names",
}


def describe_identifiers(genes: QueryGenes, path: str, findings: Findings) -> dict[str, Any]:
    """The kind of identifiers in each column and the species, with findings where they matter."""
    columns = {name: _column(column) for name, column in genes.columns.items()}
    n_genes = len(genes.rows_of("gene"))
    if n_genes >= FEWEST and not any(each.names_genes for each in genes.columns.values()):
        _tell_unknown(genes, path, findings)
    else:
        _tell_unusual(genes, path, findings)
    return {"identifiers": columns, "species": [each.name for each in genes.species]}


def _column(column: GeneColumn) -> dict[str, Any]:
    return {
        "kind": column.kind,
        "prefixes": dict(Counter(column.genomes.values()).most_common(5)),
        "examples": [column.names[row] for row in range(min(EXAMPLES, len(column)))],
    }


def _tell_unknown(genes: QueryGenes, path: str, findings: Findings) -> None:
    kinds = "; ".join(f"{name}: {WORDS[each.kind]}" for name, each in genes.columns.items())
    findings.tell(
        "unknown-identifiers",
        path,
        f"No column looks like gene names ({kinds}), so no reference of genes will match.",
        f"{_regions(genes)}put gene symbols or Ensembl gene ids into the var index or into a "
        "column of var, and upload the file again.",
    )


def _regions(genes: QueryGenes) -> str:
    if genes.columns["index"].kind != "intervals":
        return "For a reference of genes, "
    return (
        "Nothing needs doing for a reference of peaks, which is matched by them. For one of genes, "
    )


def _tell_unusual(genes: QueryGenes, path: str, findings: Findings) -> None:
    """A note where names are matched as something else than what stands in the index."""
    index = genes.columns["index"]
    said = []
    others = [repr(name) for name, each in genes.columns.items() if each.names_genes]
    if others and not index.names_genes:
        said.append(f"the index holds {WORDS[index.kind]}; genes are named by {', '.join(others)}")
    elif index.kind == "mixed":
        said.append(f"the index mixes {WORDS['mixed']}")
    for name, column in genes.columns.items():
        genomes = [genome for genome, _ in Counter(column.genomes.values()).most_common(3)]
        if genomes:
            said.append(f"names of {name!r} begin with {', '.join(genomes)}, which is taken off")
        elif column.names_genes and not column.is_plain and column.kind != "symbols":
            said.append(f"ids of {name!r} have versions or additions, which are taken off")
    if len(genes.species) > 1:
        said.append(f"genes are of several species: {' and '.join(s.name for s in genes.species)}")
    if said:
        findings.tell(
            "gene-identifiers",
            path,
            f"To be matched with a reference: {'; '.join(said)}.",
            "Nothing needs doing; `gene_coverage` tells what was matched.",
        )
