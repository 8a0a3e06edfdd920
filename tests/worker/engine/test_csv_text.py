"""Text that any reader of CSV takes for the same names and numbers."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.csv_text import csv_header, csv_rows

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1)
NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(NAMES, NUMBERS), min_size=1, max_size=8))
def test_it_reads_back(rows: list[tuple[str, float]]) -> None:
    names, numbers = [name for name, _ in rows], np.array([n for _, n in rows], dtype=np.float32)
    text = csv_header(["cell", 'a "b", c']) + csv_rows([names, numbers])
    found = pd.read_csv(
        io.BytesIO(text), dtype={"cell": str}, keep_default_na=False, float_precision="round_trip"
    )
    assert found["cell"].tolist() == names
    assert np.array_equal(found['a "b", c'].to_numpy(np.float32), numbers)


def test_a_row_is_the_same_text_beside_any_other() -> None:
    numbers = np.array([[0.5, -1e-9], [3.0, 7e12]], dtype=np.float32)
    both = csv_rows([["plain", "with, comma"], *numbers.T])
    assert both == b"".join(
        csv_rows([[name], *row[:, None]])
        for name, row in zip(["plain", "with, comma"], numbers, strict=True)
    )
    assert both.splitlines() == [b"plain,0.5,-1e-9", b'"with, comma",3,7e+12']


def test_no_row_is_no_text() -> None:
    assert csv_rows([[], np.empty(0, np.float32)]) == b""
