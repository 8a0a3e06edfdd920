"""A small valid manifest, to be varied by tests."""

from __future__ import annotations

from typing import Any

from models_store.manifest import Manifest

IDS = ("ENSG1", "ENSG2", "ENSG3")


def fields(**changes: Any) -> dict[str, Any]:
    """Keyword arguments of a valid manifest with some changed."""
    return {
        "name": "pbmc",
        "version": 1,
        "architecture": {"n_genes": 3},
        "genes": {"ids": IDS},
        "batch": {"key": "batch", "categories": ("a", "b")},
        "expected_expression": (0.5, 0.3, 0.2),
        "provenance": {
            "cellgraft_version": "0.1.0",
            "torch_version": "2.13.0",
            "n_cells": 10,
            "seed": 0,
            "created_at": "2026-01-01T00:00:00Z",
        },
    } | changes


def manifest(**changes: Any) -> Manifest:
    """A valid manifest with some fields changed."""
    return Manifest.model_validate(fields(**changes))
