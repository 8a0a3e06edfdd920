"""What is told on a terminal: names out of foreign files may not steer it."""

from __future__ import annotations

import re

from app.problems import Problem

CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f]")
"""Unicode's category Cc: escape sequences, bells, backspaces."""
REPLACEMENT = "\ufffd"


def printable(text: str) -> str:
    """One line of text, in which no character acts on the terminal."""
    return CONTROL.sub(REPLACEMENT, re.sub(r"[\t\r\n]+", " ", text))


def told(problem: Problem) -> str:
    """A problem in two lines: what is the matter, and what helps."""
    return f"{printable(f'{problem.title} {problem.detail}')}\n{printable(problem.fix)}"
