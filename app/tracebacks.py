"""Where something went wrong, without a word of what it went wrong with.

The message of an exception may hold anything that was in hand: names of cells, values of obs, the
name of a file. A log is read by others than those whose data these are.
"""

from __future__ import annotations

import sys
import threading
import traceback
import warnings
from types import TracebackType
from typing import TextIO

LONGEST_CHAIN = 10


def places(error: BaseException) -> str:
    """The types and the places of an exception and of those behind it, the first cause first."""
    told: list[str] = []
    current: BaseException | None = error
    while current is not None and len(told) < LONGEST_CHAIN:
        told.append(_one(current))
        behind = None if current.__suppress_context__ else current.__context__
        current = current.__cause__ or behind
    return "\nwhich led to:\n".join(reversed(told))


def _one(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f'  File "{at.filename}", line {at.lineno}, in {at.name}' for at in frames]
    return "\n".join([*lines, _kind(error)])


def _kind(error: BaseException) -> str:
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    # The number of a system error says what happened, and nothing of to whom.
    number = getattr(error, "errno", None)
    return f"{kind} (errno {number})" if isinstance(number, int) else kind


def tell_no_messages() -> None:
    """Have this process say so little, too, of exceptions that nobody catches."""
    sys.excepthook = _print_places
    threading.excepthook = _print_places_of_thread
    warnings.showwarning = _print_place_of_warning


def _print_places(
    kind: type[BaseException], error: BaseException, _frames: TracebackType | None
) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.stderr.write(f"uncaught:\n{places(error)}\n")


def _print_places_of_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None and not issubclass(arguments.exc_type, SystemExit):
        _print_places(arguments.exc_type, arguments.exc_value, None)


def _print_place_of_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    (file or sys.stderr).write(f"{category.__name__} at {filename}:{lineno}\n")
