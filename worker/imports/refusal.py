"""Why a save is refused, as the sandboxed reader tells it to its parent."""

from __future__ import annotations

from typing import Literal

Why = Literal["unreadable", "unsafe", "too-large"]


class Refusal(Exception):
    """The save cannot be taken; `why` chooses the problem that a person sees."""

    def __init__(self, why: Why, reason: str) -> None:
        super().__init__(reason)
        self.why, self.reason = why, reason


def unreadable(reason: str) -> Refusal:
    return Refusal("unreadable", f"The save cannot be read: {reason}.")


def too_large(reason: str) -> Refusal:
    return Refusal("too-large", f"The save declares more than is accepted: {reason}.")
