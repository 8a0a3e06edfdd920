"""What an import tells of its features: each kind by its number."""

from __future__ import annotations

from typing import Any

import pytest

from models_store.gene_panel import Genes, Modality
from tests.models_store.manifests import manifest
from worker.imports.telling import _genes


def panel(**counts: int) -> tuple[Modality, ...]:
    return tuple(Modality(kind=kind, count=n) for kind, n in counts.items())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("genes", "kind", "said"),
    [
        (
            {"ids": ["CD4", "LYZ", "CD3"], "modalities": panel(gene=2, protein=1)},
            "totalvi",
            "2 genes by names of another kind: CD4, LYZ. Besides 1 proteins.",
        ),
        (
            {
                "ids": ["ENSG1", "ENSG2", "CD3"],
                "ensembl": ["ENSG1", "ENSG2", ""],
                "symbols": ["CD4", "LYZ", ""],
                "modalities": panel(gene=2, protein=1),
            },
            "totalvi",
            "2 genes by Ensembl ids, with symbols beside them: ENSG1, ENSG2. Besides 1 proteins.",
        ),
        (
            {"ids": ["1:1-2", "1:4-5", "1:7-8"], "modalities": panel(region=3)},
            "peakvi",
            "3 regions: 1:1-2, 1:4-5, 1:7-8.",
        ),
    ],
)
def test_kinds_are_counted_apart(genes: dict[str, Any], kind: str, said: str) -> None:
    counts = Genes.model_validate(genes).counts()
    sizes = {f"n_{each}s": n for each, n in counts.items()}
    assert _genes(manifest(genes=genes, kind=kind, architecture=sizes)) == said
