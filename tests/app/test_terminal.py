"""What is printed cannot steer the terminal that it is printed on."""

from __future__ import annotations

import unicodedata

from app.problems import UnfitCells
from app.terminal import printable, told


def test_no_control_character_is_printed() -> None:
    every = "".join(map(chr, range(0x110000 // 64)))
    shown = printable(every)
    assert not [each for each in shown if unicodedata.category(each) == "Cc"]
    assert printable("T cell\x1b[2J\x07") == "T cell\ufffd[2J\ufffd"
    assert printable("two\nlines") == "two lines"
    assert printable("Zürich, CD8⁺ 细胞") == "Zürich, CD8⁺ 细胞"


def test_a_problem_is_two_lines_whatever_names_it_tells() -> None:
    problem = UnfitCells("No column 'a\x1b]0;title\x07\nb'.", fix="Name \x9b31mone.")
    shown = told(problem)
    assert shown.count("\n") == 1
    assert not set(shown) & set("\x1b\x07\x9b")
    assert "Name \ufffd31mone." in shown
