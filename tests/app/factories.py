"""Plain functions that make what tests need."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from app.bell import PollingBell
from app.database import Database
from app.jobs import Claim, claim_next
from app.mappings import MappingRequest, record_results, submit_mapping
from app.queries import accept_query, create_query
from app.references import bundle_prefix, publish_version, submit_build
from app.staging import StagedFile
from app.storage import Storage
from app.tables import Query, QueryMapping, ReferenceVersion

GENES = ["CD3D", "MS4A1", "LYZ", "NKG7"]
BELL = PollingBell()


def staged_file(folder: Path, content: bytes = b"cells") -> StagedFile:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "staged"
    path.write_bytes(content)
    return StagedFile(path, len(content), hashlib.sha256(content).hexdigest())


def published(storage: Storage, prefix: str, files: Mapping[str, bytes]) -> None:
    with TemporaryDirectory() as above:
        folder = Path(above, "made")
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        storage.publish_folder(folder, prefix)


def uploaded(
    database: Database, storage: Storage, *, owner: str = "local", **changes: Any
) -> Query:
    given: dict[str, Any] = {
        "filename": "sample.h5ad",
        "options": {"layer": None, "input": "counts"},
        "max_attempts": 3,
        **changes,
    }
    with TemporaryDirectory() as folder, database.writing() as session:
        given.setdefault("staged", staged_file(Path(folder)))
        return create_query(session, BELL, owner=owner, storage=storage, **given)


def claimed(database: Database, *kinds: str, worker: str = "w1", lease: float = 30) -> Claim:
    with database.writing() as session:
        claim = claim_next(
            session, worker=worker, kinds=kinds or ("check", "map", "build"), lease_seconds=lease
        )
    assert claim is not None
    return claim


def inspection(**changes: Any) -> dict[str, Any]:
    return {
        "n_cells": 10,
        "n_genes": len(GENES),
        "input": "counts",
        "counts_from": "X",
        "genes": {"example": GENES, "columns": []},
        "columns": [
            {"name": "sample", "kind": "categorical", "n_values": 2},
            {"name": "cell_type", "kind": "categorical", "n_values": 3},
        ],
        "problems": [],
        **changes,
    }


def checked(
    database: Database,
    storage: Storage,
    *,
    genes: list[str] | None = None,
    found: dict[str, Any] | None = None,
    owner: str = "local",
) -> Query:
    """A query that intake has accepted, with its canonical files (but for the counts)."""
    query = uploaded(database, storage, owner=owner)
    prefix = f"queries/{query.id}/canonical-1"
    table = {"index": genes or GENES, "columns": {}}
    empty = ("canonical.json", "indptr.npy", "indices.npy", "data.npy", "obs.arrow")
    files = dict.fromkeys(empty, b"") | {"genes.json": json.dumps(table).encode()}
    published(storage, prefix, files)
    claim = claimed(database, "check")
    with database.writing() as session:
        assert accept_query(
            session, claim, canonical_prefix=prefix, inspection=found or inspection()
        )
    with database.reading() as session:
        return session.get_one(Query, query.id)


def manifest(name: str = "pbmc", version: int = 1, **changes: Any) -> dict[str, Any]:
    digest = hashlib.sha256(b"cells").hexdigest()
    return {
        "name": name,
        "version": version,
        "architecture": {"n_genes": len(GENES)},
        "genes": {"ids": GENES},
        "batch": {"key": "sample", "categories": ["a", "b"]},
        "expected_expression": [0.25] * len(GENES),
        "provenance": {
            "cellgraft_version": "0",
            "torch_version": "0",
            "n_cells": 10,
            "seed": 0,
            "created_at": "2026-01-01T00:00:00Z",
        },
        "files": {"cells.parquet": digest},
        **changes,
    }


def built(
    database: Database, storage: Storage, *, name: str = "pbmc", **changes: Any
) -> ReferenceVersion:
    """A reference that is ready."""
    query = checked(database, storage)
    with database.writing() as session:
        version = submit_build(
            session, BELL, owner="local", name=name, query_id=query.id, options={}, max_attempts=3
        )
    claim = claimed(database, "build")
    told = manifest(name, version.version, **changes)
    prefix = bundle_prefix(name, version.version, claim.attempt)
    files = {
        "cells.parquet": b"cells",
        "manifest.json": json.dumps(told).encode(),
        "MODEL_CARD.md": b"# A card",
    }
    published(storage, prefix, files)
    with database.writing() as session:
        assert publish_version(session, claim, prefix=prefix, manifest=told)
    with database.reading() as session:
        return session.get_one(ReferenceVersion, version.id)


def asked(
    database: Database, query: Query, *, reference: str = "pbmc", **changes: Any
) -> QueryMapping:
    request = MappingRequest(query=query.id, reference=reference, **changes)
    with database.writing() as session:
        return submit_mapping(session, BELL, owner=query.owner, request=request, max_attempts=3)[0]


RESULTS = {
    "latent.parquet": (b"parquet!", "application/vnd.apache.parquet"),
    "latent.csv": (b"cell,latent_0\na,0.5\n", "text/csv"),
    "latent.npy": (b"npy", "application/x-npy"),
}


def mapped(database: Database, storage: Storage, query: Query) -> QueryMapping:
    """A mapping that has succeeded, with its results."""
    mapping = asked(database, query)
    record(database, storage, mapping, claimed(database, "map"))
    return mapping


def record(database: Database, storage: Storage, mapping: QueryMapping, claim: Claim) -> None:
    """What a worker does when it has mapped."""
    prefix = f"mappings/{mapping.id}/{claim.attempt}"
    published(storage, prefix, {name: content for name, (content, _) in RESULTS.items()})
    results = []
    for name, (content, media_type) in RESULTS.items():
        digest = hashlib.sha256(content).hexdigest()
        size = len(content)
        results.append({"name": name, "bytes": size, "sha256": digest, "media_type": media_type})
    with database.writing() as session:
        assert record_results(
            session, claim, results_prefix=prefix, results=results, summary={"n_cells": 10}
        )
