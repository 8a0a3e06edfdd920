"""One JSON object a line, without secrets or data: no query strings, no headers, no bodies, and of
an exception its type and its place alone."""

from __future__ import annotations

import json
import logging
import sys
from copy import copy
from datetime import UTC, datetime
from typing import Any

from app.tracebacks import places, tell_no_messages


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "from": record.name,
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["traceback"] = places(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)


class PlainLines(logging.Formatter):
    """Text, for a child whose lines go to its parent's log; as silent of data."""

    def format(self, record: logging.LogRecord) -> str:
        own = copy(record)
        own.exc_text = None  # what another handler may have made of the exception
        return super().format(own)

    def formatException(self, ei: Any) -> str:
        return places(ei[1]) if ei[1] is not None else ""


def set_up_plain_logs() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainLines("%(asctime)s %(name)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    tell_no_messages()


def set_up_logs(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    tell_no_messages()
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # Its access lines carry query strings; `app.doors` writes ours.
    logging.getLogger("uvicorn.access").disabled = True
