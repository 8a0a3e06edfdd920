"""Workers as the database knows them: a sign of life, a device, and what they have loaded."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from app.columns import epoch_now
from app.moves import changed
from app.tables import Worker

SEEN_SECONDS = 5
ALIVE_SECONDS = 30
"""A worker that has given no sign of life for so long counts as gone."""
FORGOTTEN_SECONDS = 86_400


def register_worker(
    session: Session,
    name: str,
    *,
    device: str | None,
    warm: Sequence[str],
    sandbox: Mapping[str, Any] | None = None,
) -> None:
    """Tell what this worker has at hand, and forget those that have been gone for a day."""
    note_worker(session, name)
    here = update(Worker).where(Worker.name == name)
    told = {"device": device, "warm": list(warm), "sandbox": sandbox and dict(sandbox)}
    session.execute(here.values(**told, seen_at=epoch_now()))
    session.execute(delete(Worker).where(Worker.seen_at < epoch_now() - FORGOTTEN_SECONDS))
    session.commit()


def note_worker(session: Session, name: str) -> None:
    """Remember when this worker was last alive, at most every few seconds; does not commit."""
    seen = session.scalar(select(Worker.seen_at).where(Worker.name == name))
    if seen is None:
        session.add(Worker(name=name, seen_at=session.scalar(select(epoch_now())) or 0.0))
        session.flush()
        return
    changed(
        session,
        update(Worker)
        .where(Worker.name == name, Worker.seen_at < epoch_now() - SEEN_SECONDS)
        .values(seen_at=epoch_now()),
    )


def dismiss_worker(session: Session, name: str) -> None:
    """This worker has ended: nobody waits for it, and nobody counts it."""
    session.execute(delete(Worker).where(Worker.name == name))
    session.commit()


def workers_seen(session: Session, *, within_seconds: float) -> int:
    recent = select(func.count()).where(Worker.seen_at > epoch_now() - within_seconds)
    return session.scalar(recent) or 0


def sandboxes_seen(session: Session, *, within_seconds: float) -> list[dict[str, Any]]:
    """What these workers said of their sandboxes, each sandbox once, the weakest first."""
    recent = select(Worker.sandbox).where(Worker.seen_at > epoch_now() - within_seconds)
    told = [sandbox for sandbox in session.scalars(recent) if sandbox is not None]
    counted = Counter(json.dumps(sandbox, sort_keys=True) for sandbox in told)
    found = [{**json.loads(text), "workers": number} for text, number in counted.items()]
    return sorted(found, key=lambda each: -len(each["missing"]))
