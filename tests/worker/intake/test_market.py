"""Matrix Market triples in every packing and order."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from app.problems import AmbiguousFile, Problem
from worker.canonical import CanonicalQuery
from worker.intake import market_text
from worker.intake.check import Request, check_upload
from worker.intake.folder import CanonicalFolder
from worker.intake.limits import Limits
from worker.intake.samples import UploadedFile

from . import cell_ranger_files as made
from . import files
from . import market_files as packed
from .conftest import Checked, check_here
from .test_layouts import arrays

Check = Callable[..., Checked]
MATRIX = files.counts(30, 9)

PACKINGS: dict[str, Callable[[Path, packed.Contents], Path]] = {
    "tar": lambda path, contents: packed.write_tar(path, contents, "w"),
    "tar.gz": lambda path, contents: packed.write_tar(path, contents),
    "tar of files in gzip": lambda path, contents: packed.write_tar(
        path, packed.in_folder(packed.gzipped(contents)), "w"
    ),
    "tar.gz of files in gzip, in a folder": lambda path, contents: packed.write_tar(
        path, packed.in_folder(packed.gzipped(contents))
    ),
    "pax names": lambda path, contents: packed.write_tar(
        path, packed.in_folder(contents, "ü" * 80 + "/" + "x" * 90)
    ),
    "zip": packed.write_zip,
    "zip, stored, of files in gzip": lambda path, contents: packed.write_zip(
        path, packed.in_folder(packed.gzipped(contents)), zipfile.ZIP_STORED
    ),
    "a sample's name before": lambda path, contents: packed.write_zip(
        path, {f"GSM1_{name}": data for name, data in contents.items()}
    ),
    "with other files and what a Mac adds": lambda path, contents: packed.write_zip(
        path,
        {"__MACOSX/._matrix.mtx": b"x", "web_summary.html": b"<", **packed.in_folder(contents)},
    ),
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("expected")
    check_here(made.write_v3(folder / "query.h5", MATRIX), folder / "canonical")
    return [(folder / "canonical" / name).read_bytes() for name in ("genes.json", "obs.arrow")] + (
        arrays(folder / "canonical")
    )


def contents_of(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("genes.json", "obs.arrow")] + arrays(folder)


@pytest.mark.parametrize("name", PACKINGS)
def test_every_packing_gives_the_same_canonical_query(
    name: str, check: Check, expected: list[bytes], tmp_path: Path
) -> None:
    path = PACKINGS[name](tmp_path / "query", packed.triple(MATRIX))
    report, query = check(path)
    assert report["format"] == "10x-mtx"
    assert contents_of(query.folder)[1:] == expected[1:]
    assert query.gene_columns()["gene_symbols"] == made.symbols(9)


@pytest.mark.parametrize("order", ["cells", "genes", "none"])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("block", [40, 2**20])
@pytest.mark.parametrize("at_once", [17, 10**6])
def test_entries_come_in_any_order(
    order: str,
    turned: bool,
    block: int,
    at_once: int,
    check: Check,
    expected: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(market_text, "BLOCK_BYTES", block)
    monkeypatch.setattr(Limits, "transpose_entries", at_once)
    text = packed.market(MATRIX, order=order, turned=turned)
    path = packed.write_tar(tmp_path / "query", packed.triple(MATRIX, text=text))
    report, query = check(path)
    assert contents_of(query.folder)[1:] == expected[1:]
    told = [each["code"] for each in report["problems"]]
    assert told == (["matrix-turned"] if turned else [])


def test_three_files_of_a_form_are_one_matrix(expected: list[bytes], tmp_path: Path) -> None:
    contents = packed.gzipped(packed.triple(MATRIX))
    sent = []
    for number, (name, data) in enumerate(reversed(contents.items())):
        (tmp_path / str(number)).write_bytes(data)
        sent.append(UploadedFile(tmp_path / str(number), name))
    sink = CanonicalFolder(tmp_path / "canonical", quota=2**40)
    sink.finish(check_upload(sent, Request(), Limits(), sink))
    assert contents_of(tmp_path / "canonical")[1:] == expected[1:]


def test_two_triples_of_a_form_are_two_samples(tmp_path: Path) -> None:
    sent = []
    for sample in "ab":
        for name, data in packed.triple(MATRIX).items():
            path = tmp_path / f"{sample}_{name}"
            path.write_bytes(data)
            sent.append(UploadedFile(path, path.name))
    sink = CanonicalFolder(tmp_path / "canonical", quota=2**40)
    sink.finish(check_upload(sent, Request(), Limits(), sink))
    query = CanonicalQuery.open(tmp_path / "canonical")
    assert query.obs()["sample"].tolist() == ["a"] * 30 + ["b"] * 30
    assert (query.rows(30, 60).toarray() == MATRIX).all()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b" ", b"\t"),
        (b" ", b"   "),
        (b"\n", b" \n"),
        (b"\n", b"\r\n"),
        (b"\n", b"\n\n"),
        (b"\n4 ", b"\n% odd\n4 "),
        (b"integer", b"Real"),
    ],
)
def test_text_may_be_spaced_otherwise(
    old: bytes, new: bytes, check: Check, expected: list[bytes], tmp_path: Path
) -> None:
    text = packed.market(MATRIX)
    head, body = text.split(b"made here\n")
    changed = head.replace(old, new) if new == b"Real" else head
    changed += b"made here\n" + (body.replace(old, new) if new != b"Real" else body)
    assert changed != text
    _, query = check(packed.write_tar(tmp_path / "query", packed.triple(MATRIX, text=changed)))
    assert contents_of(query.folder)[1:] == expected[1:]


def test_what_else_is_packed_is_told_by_names_that_can_be_told(
    check: Check, tmp_path: Path
) -> None:
    contents = {**packed.triple(MATRIX), "notes\udc80\udcff.txt": b"x"}
    report, _ = check(packed.write_tar(tmp_path / "query", contents))
    assert report["dropped"]["files"] == ["notes\ufffd\ufffd.txt"]


def test_a_mark_of_byte_order_is_no_part_of_a_name(
    check: Check, expected: list[bytes], tmp_path: Path
) -> None:
    contents = packed.triple(MATRIX)
    for table in ("features.tsv", "barcodes.tsv"):
        contents[table] = b"\xef\xbb\xbf" + contents[table]
    _, query = check(packed.write_tar(tmp_path / "query", contents))
    assert contents_of(query.folder)[1:] == expected[1:]


def test_a_table_of_genes_of_two_columns(check: Check, tmp_path: Path) -> None:
    contents = packed.triple(MATRIX)
    lines = contents.pop("features.tsv").splitlines()
    contents["genes.tsv"] = b"\n".join(line.rsplit(b"\t", 1)[0] for line in lines)
    _, query = check(packed.write_tar(tmp_path / "query", contents))
    assert query.gene_columns() == {"index": made.gene_ids(9), "gene_symbols": made.symbols(9)}


def test_several_matrices_are_named(check: Check, tmp_path: Path) -> None:
    contents = {
        **packed.in_folder(packed.triple(), "filtered"),
        **packed.in_folder(packed.triple(), "raw"),
    }
    with pytest.raises(AmbiguousFile, match="`filtered`, `raw`"):
        check(packed.write_zip(tmp_path / "query", contents))


def test_a_matrix_alone_is_told_what_it_lacks(check: Check, tmp_path: Path) -> None:
    for data in (packed.market(MATRIX), gzip.compress(packed.market(MATRIX))):
        (tmp_path / "query").write_bytes(data)
        with pytest.raises(Problem) as caught:
            check(tmp_path / "query")
        assert "features.tsv" in caught.value.fix
