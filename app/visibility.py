"""Who sees a reference, and who its cells: everybody unless an administrator said otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.columns import utc_now
from app.keys import Principal
from app.reference_tables import Restriction

Cells = Literal["open", "admin"] | list[str]
"""`open`: to whoever sees the reference; or to administrators; or to these owners and them."""


@dataclass(frozen=True)
class Visibility:
    owners: list[str] | None = None
    """Who sees the reference, beside administrators. None: everybody."""
    cells: Cells = "open"


def visibility_of(session: Session, name: str) -> Visibility:
    found = session.get(Restriction, name, populate_existing=True)
    return Visibility() if found is None else _read(found)


def change_restriction(session: Session, name: str, wanted: Visibility) -> None:
    """An inner step of a use-case, which holds the name's lock and commits."""
    found = session.get(Restriction, name, populate_existing=True)
    if found is None:
        found = Restriction(reference=name)
        session.add(found)
    found.owners = wanted.owners
    found.cells = wanted.cells if isinstance(wanted.cells, str) else "owners"
    found.cells_owners = wanted.cells if isinstance(wanted.cells, list) else None
    found.updated_at = utc_now()


def is_visible(session: Session, name: str, caller: Principal) -> bool:
    return caller.is_administrator or _sees(visibility_of(session, name), caller)


def hidden_names(session: Session, caller: Principal) -> frozenset[str]:
    """References that do not exist for this caller."""
    if caller.is_administrator:
        return frozenset()
    restricted = session.scalars(select(Restriction).where(Restriction.owners.is_not(None)))
    return frozenset(row.reference for row in restricted if not _sees(_read(row), caller))


def shows_cells(session: Session, name: str, caller: Principal) -> bool:
    """Whether this caller, who sees the reference, gets the coordinates of its cells."""
    if caller.is_administrator:
        return True
    cells = visibility_of(session, name).cells
    return cells == "open" or (isinstance(cells, list) and caller.owner in cells)


def _read(row: Restriction) -> Visibility:
    cells: Cells = list(row.cells_owners or ()) if row.cells == "owners" else _plain(row.cells)
    return Visibility(None if row.owners is None else list(row.owners), cells)


def _plain(cells: str) -> Literal["open", "admin"]:
    return "open" if cells == "open" else "admin"


def _sees(visibility: Visibility, caller: Principal) -> bool:
    return visibility.owners is None or caller.owner in visibility.owners
