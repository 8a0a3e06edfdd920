"""Matrices of market files and their archives that are damaged or hostile: each is refused."""

from __future__ import annotations

import gzip
import io
import tarfile
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.problems import Problem

from . import cell_ranger_files as made
from . import files
from . import market_files as packed
from .conftest import check_here

Sandboxed = Callable[..., dict[str, Any]]
MATRIX = files.counts(30, 9)


def changed(name: str, old: bytes, new: bytes) -> Callable[[], packed.Contents]:
    def make() -> packed.Contents:
        contents = packed.triple(MATRIX)
        assert old in contents[name]
        return {**contents, name: contents[name].replace(old, new, 1)}

    return make


ENTRY = b"\n4 1 "
"""Where the second entry begins."""
BAD_TEXT: dict[str, tuple[str, str, Callable[[], packed.Contents]]] = {
    "pattern": ("market-kind", "/matrix.mtx", changed("matrix.mtx", b"integer", b"pattern")),
    "complex": ("market-kind", "/matrix.mtx", changed("matrix.mtx", b"integer", b"complex")),
    "symmetric": ("market-kind", "/matrix.mtx", changed("matrix.mtx", b"general", b"symmetric")),
    "array": ("market-kind", "/matrix.mtx", changed("matrix.mtx", b"coordinate", b"array")),
    "no banner": ("market-header", "/matrix.mtx", changed("matrix.mtx", b"%%Matrix", b"%Matrix")),
    "no sizes": ("market-header", "/matrix.mtx", changed("matrix.mtx", b"\n9 30 ", b"\n9 x 30 ")),
    "sizes negative": ("market-header", "/matrix.mtx", changed("matrix.mtx", b"\n9 ", b"\n-9 ")),
    "letters": ("market-line", "/matrix.mtx", changed("matrix.mtx", ENTRY, b"\nx 1 ")),
    "two numbers": ("market-line", "/matrix.mtx", changed("matrix.mtx", ENTRY, b"\n4 ")),
    "four numbers": ("market-line", "/matrix.mtx", changed("matrix.mtx", ENTRY, b"\n4 1 1 ")),
    "enormous": ("index-out-of-range", "/matrix.mtx",
                 changed("matrix.mtx", ENTRY, b"\n%d 1 " % 9**30)),
    "row 0": ("index-out-of-range", "/matrix.mtx", changed("matrix.mtx", ENTRY, b"\n0 1 ")),
    "row 10": ("index-out-of-range", "/matrix.mtx", changed("matrix.mtx", ENTRY, b"\n10 1 ")),
    "column 31": ("index-out-of-range", "/matrix.mtx", changed("matrix.mtx", ENTRY, b"\n4 31 ")),
    "negative": ("negative-values", "/matrix.mtx", changed("matrix.mtx", ENTRY, b"\n4 1 -")),
    "nan": ("not-a-number", "/matrix.mtx", changed("matrix.mtx", ENTRY, b"\n4 1 nan\n3 1 ")),
    "fraction": ("fractional-values", "/matrix.mtx", changed("matrix.mtx", ENTRY, b"\n4 1 0.")),
    "an entry more": ("market-entries", "/matrix.mtx",
                      changed("matrix.mtx", ENTRY, b"\n4 1 1\n3 1 ")),
    "features short": ("shape-mismatch", "/matrix.mtx", lambda: {
        **packed.triple(MATRIX), "features.tsv": packed.triple(MATRIX[:, :8])["features.tsv"]}),
    "barcodes with headings": ("shape-mismatch", "/matrix.mtx", lambda: {
        **packed.triple(MATRIX),
        "barcodes.tsv": b"barcode\n" + packed.triple(MATRIX)["barcodes.tsv"]}),
    "barcodes short": ("shape-mismatch", "/matrix.mtx",
                       changed("barcodes.tsv", made.barcodes(1)[0].encode() + b"\n", b"")),
    "features ragged": ("table-lines", "/features.tsv",
                        changed("features.tsv", b"\tGene Expression", b"")),
    "barcodes no UTF-8": ("table-lines", "/barcodes.tsv", changed("barcodes.tsv", b"A", b"\xff")),
    "barcodes with NUL": ("text-with-nul", "/barcodes.tsv", changed("barcodes.tsv", b"A", b"\0")),
    "cut short": ("market-entries", "/matrix.mtx", lambda: {
        **packed.triple(MATRIX), "matrix.mtx": packed.market(MATRIX).rsplit(b"\n", 4)[0]}),
    "no features": ("triple-incomplete", "/matrix.mtx", lambda: {
        name: data for name, data in packed.triple().items() if name != "features.tsv"}),
    "nothing": ("triple-incomplete", "/", lambda: {"readme.txt": b"x"}),
    "an h5ad": ("other-format", "/", lambda: {"a/query.h5ad": b"x"}),
    "features twice": ("archive-repeats", "/genes.tsv", lambda: {
        **packed.triple(), "genes.tsv": b"x"}),
    "two matrices": ("several-matrices", "/", lambda: {
        **packed.in_folder(packed.triple(), "a"), **packed.in_folder(packed.triple(), "b")}),
    "nested": ("archive-nested", "/more.tar.gz", lambda: {**packed.triple(), "more.tar.gz": b"x"}),
    "gzip twice": ("archive-nested", "/matrix.mtx.gz", lambda: {
        **packed.gzipped(packed.triple()),
        "matrix.mtx.gz": gzip.compress(gzip.compress(packed.market(MATRIX)))}),
    "gzip cut": ("archive-damaged", "/matrix.mtx.gz", lambda: {
        **packed.gzipped(packed.triple()),
        "matrix.mtx.gz": gzip.compress(packed.market(MATRIX))[:-30]}),
    "gzip damaged": ("archive-damaged", "/features.tsv.gz", lambda: {
        **packed.gzipped(packed.triple()),
        "features.tsv.gz": gzip.compress(b"x" * 50)[:-8] + b"12345678"}),
    "climbing": ("archive-path", "/../../etc/x", lambda: {**packed.triple(), "../../etc/x": b"x"}),
    "absolute": ("archive-path", "/etc/cron.d/x", lambda: {
        **packed.triple(), "/etc/cron.d/x": b"x"}),
    "backslash": ("archive-path", "/a\\..\\x", lambda: {**packed.triple(), "a\\..\\x": b"x"}),
}  # fmt: skip


def refused(sandboxed: Sandboxed, path: Path, **request: Any) -> Problem:
    began = time.monotonic()
    with pytest.raises(Problem) as caught:
        sandboxed(path, **request)
    assert time.monotonic() - began < 10
    assert caught.value.status == 422
    assert caught.value.fix
    assert "write_h5ad" not in caught.value.fix  # this is none
    return caught.value


@pytest.mark.parametrize("name", BAD_TEXT)
@pytest.mark.parametrize("write", [packed.write_tar, packed.write_zip])
def test_refuses(
    name: str, write: Callable[..., Path], sandboxed: Sandboxed, tmp_path: Path
) -> None:
    code, pointer, make = BAD_TEXT[name]
    problem = refused(sandboxed, write(tmp_path / "query", make()))
    assert (code, pointer) in {(each["code"], each["pointer"]) for each in problem.errors}


def with_member(change: Callable[[tarfile.TarInfo], object]) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        packed.write_tar(path, packed.triple(MATRIX), "w")
        with tarfile.open(path, "a") as archive:
            info = tarfile.TarInfo("odd")
            change(info)
            archive.addfile(info)
        return path

    return write


def _linked(kind: bytes) -> Callable[[tarfile.TarInfo], object]:
    return lambda info: (setattr(info, "type", kind), setattr(info, "linkname", "/etc/passwd"))


def _zip_with(change: Callable[[zipfile.ZipFile], object]) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        packed.write_zip(path, packed.triple(MATRIX))
        with zipfile.ZipFile(path, "a") as archive:
            change(archive)
        return path

    return write


def _zip_link(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("odd")
    info.external_attr = 0o120777 << 16
    archive.writestr(info, "/etc/passwd")


def _encrypted(path: Path) -> Path:
    """The flag alone, in both headers of every file."""
    data = bytearray(packed.write_zip(path, packed.triple(MATRIX)).read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        found = data.find(mark)
        while found >= 0:
            data[found + at] |= 1
            found = data.find(mark, found + 4)
    path.write_bytes(data)
    return path


def _tar_bomb(path: Path) -> Path:
    """A matrix of comments that inflates a thousandfold."""
    block = gzip.compress(b"%" + b" " * (2**20 - 2) + b"\n", 9)
    contents = packed.gzipped(packed.triple(MATRIX))
    head = gzip.compress(b"%%MatrixMarket matrix coordinate integer general\n9 30 1\n")
    return packed.write_tar(path, {**contents, "matrix.mtx.gz": head + block * 600}, "w")


def _pax_bomb(path: Path) -> Path:
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 8 * 2**30
    path.write_bytes(gzip.compress(info.tobuf() + b"1" * 4096))
    return path


def _zip_bomb(path: Path) -> Path:
    contents = packed.triple(MATRIX)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in contents.items():
            if name != "matrix.mtx":
                archive.writestr(name, data)
        with archive.open("matrix.mtx", "w") as file:
            file.write(contents["matrix.mtx"])
            for _ in range(300):
                file.write(b"\n" * 2**20)
    return path


def _repeated(path: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        for _ in range(2):
            for name, data in packed.triple(MATRIX).items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path


def _sparse(path: Path) -> Path:
    packed.write_tar(path, packed.triple(MATRIX), "w")
    data = bytearray(path.read_bytes())
    info = tarfile.TarInfo("odd")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"%011o\0" % 2**40
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(bytes(header) + data)
    return path


BAD_ARCHIVES: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "symbolic link": ("archive-link", with_member(_linked(tarfile.SYMTYPE))),
    "hard link": ("archive-link", with_member(_linked(tarfile.LNKTYPE))),
    "character device": ("archive-device", with_member(_linked(tarfile.CHRTYPE))),
    "block device": ("archive-device", with_member(_linked(tarfile.BLKTYPE))),
    "pipe": ("archive-device", with_member(_linked(tarfile.FIFOTYPE))),
    "sparse": ("archive-device", _sparse),
    "link in a zip": ("archive-link", _zip_with(_zip_link)),
    "encrypted": ("archive-encrypted", _encrypted),
    "bzip2 in a zip": (
        "unknown-filter",
        _zip_with(lambda archive: archive.writestr("x", "x" * 99, zipfile.ZIP_BZIP2)),
    ),
    "repeated": ("archive-repeats", _repeated),
    "bomb in a tar": ("expands-too-much", _tar_bomb),
    "bomb in a zip": ("expands-too-much", _zip_bomb),
    "header of 8 GiB": ("archive-damaged", _pax_bomb),
}


@pytest.mark.parametrize("name", BAD_ARCHIVES)
def test_refuses_archives(name: str, sandboxed: Sandboxed, tmp_path: Path) -> None:
    code, write = BAD_ARCHIVES[name]
    problem = refused(sandboxed, write(tmp_path / "query"))
    assert code in {each["code"] for each in problem.errors}, problem.errors


@pytest.mark.parametrize("write", [packed.write_tar, packed.write_zip])
def test_an_archive_cut_anywhere_is_refused(write: Callable[..., Path], tmp_path: Path) -> None:
    sound = write(tmp_path / "sound", packed.triple(MATRIX)).read_bytes()
    for length in range(20, len(sound) - 20, 37):
        (tmp_path / "cut").write_bytes(sound[:length])
        with pytest.raises(Problem) as caught:
            check_here(tmp_path / "cut", tmp_path / "canonical")
        assert caught.value.fault == "data"


def test_flipped_bytes_never_break_the_check(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    for write in (packed.write_tar, packed.write_zip):
        sound = write(tmp_path / "sound", packed.gzipped(packed.triple(MATRIX))).read_bytes()
        for _ in range(150):
            data = bytearray(sound)
            for at in rng.integers(0, len(data), 4):
                data[at] = int(rng.integers(0, 256))
            (tmp_path / "odd").write_bytes(data)
            with suppress(Problem):  # any other exception fails this test
                check_here(tmp_path / "odd", tmp_path / "canonical")
