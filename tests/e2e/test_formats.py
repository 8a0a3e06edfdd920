"""Other formats and several files through the real processes: sent by curl, checked, told of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.service import Serving
from tests.worker.intake import cell_ranger_files as made
from tests.worker.intake import files
from tests.worker.intake import market_files as packed

pytestmark = pytest.mark.slow


def told(service: Serving, *arguments: str) -> dict[str, Any]:
    answer = service.curl("/v1/queries", *arguments)
    assert answer.status == 201, answer.json
    found: dict[str, Any] = service.curl(f"/v1/queries/{answer.json['id']}?wait=60").json
    return found


def test_several_files_and_a_triple_are_one_query_each(service: Serving, tmp_path: Path) -> None:
    parts = [made.write_v3(tmp_path / f"s{at}_filtered_feature_bc_matrix.h5") for at in range(8)]
    form = [word for part in parts for word in ("-F", f"file=@{part}")]
    query = told(service, *form)
    assert query["state"] == "ready", query["problem"]
    assert query["inspection"]["n_cells"] == 8 * files.CELLS
    assert [part["sample"] for part in query["inspection"]["parts"]] == [f"s{n}" for n in range(8)]
    assert [part["bytes"] for part in query["parts"]] == [part.stat().st_size for part in parts]
    triple = []
    for name, data in packed.gzipped(packed.triple()).items():
        (tmp_path / name).write_bytes(data)
        triple += ["-F", f"file=@{tmp_path / name}"]
    query = told(service, *triple)
    assert query["state"] == "ready", query["problem"]
    assert query["inspection"]["format"] == "10x-mtx"
    assert "parts" not in query["inspection"]


def test_an_archive_is_read_in_the_sandbox(service: Serving, tmp_path: Path) -> None:
    path = packed.write_tar(tmp_path / "run.tar.gz", packed.in_folder(packed.triple()))
    query = told(service, "-T", str(path))
    assert query["state"] == "ready", query["problem"]
    assert query["inspection"]["format"] == "10x-mtx"


def test_a_bad_part_is_told_by_its_number(service: Serving, tmp_path: Path) -> None:
    sound = made.write_v3(tmp_path / "sound.h5")
    bad = tmp_path / "private-name.h5"
    bad.write_bytes(b"nothing that is known")
    query = told(service, "-F", f"file=@{sound}", "-F", f"file=@{bad}")
    assert query["state"] == "rejected"
    assert [error["pointer"] for error in query["problem"]["errors"]] == ["/parts/2"]
    assert "private-name" not in query["problem"]["detail"]
