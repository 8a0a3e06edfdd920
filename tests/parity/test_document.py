"""docs/parity.md is the table of the configurations that the tests have, all of them passing."""

from __future__ import annotations

from pathlib import Path

from .multivi_configurations import CONFIGURATIONS as MODALITIES
from .table import EVERY

DOCUMENT = Path(__file__).parents[2] / "docs" / "parity.md"


def test_document_shows_every_configuration_passing() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in DOCUMENT.read_text().splitlines()
        if line.startswith("|")
    ]
    for name in EVERY:
        verdicts = [row[-1] for row in rows if row[0] == name]
        assert verdicts[:2] == ["pass", "pass"], name
    for name in MODALITIES:
        assert [row[-1] for row in rows if row[0] == name] == ["pass"], name
    assert not any("fail" in cell for row in rows for cell in row)
