"""How the demo ends early: with a plain sentence and a non-zero exit code."""

from __future__ import annotations


class DemoFailed(Exception):
    """Something the demo needs went wrong; the message is for the person who started it."""
