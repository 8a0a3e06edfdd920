"""What an export of a mapping starts from."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.problems import MappingNotFinished, UnknownMapping
from app.tables import QueryMapping
from app.work import MapWork, describe_mapping


@dataclass(frozen=True)
class ExportWork:
    mapping: MapWork
    results_prefix: str


def describe_export(session: Session, mapping_id: str) -> ExportWork:
    """Read where a finished mapping, its query and its reference lie.

    Raises:
        UnknownMapping: there is none.
        MappingNotFinished: it has no results, or not yet.
    """
    mapping = session.get(QueryMapping, mapping_id)
    if mapping is None:
        raise UnknownMapping(
            f"There is no mapping {mapping_id!r}.",
            fix="Check the id; GET /v1/mappings lists your mappings.",
        )
    if mapping.results_prefix is None:
        raise MappingNotFinished(
            f"Mapping {mapping_id} has no results to export.",
            fix="Wait until its state is `succeeded`; if it failed or was cancelled, map again.",
        )
    return ExportWork(describe_mapping(session, mapping_id), mapping.results_prefix)
