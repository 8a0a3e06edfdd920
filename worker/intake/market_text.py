"""Matrix Market text, read in blocks of lines, and the tables of names that stand beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from worker.intake.archives import Text
from worker.intake.findings import located
from worker.intake.limits import Limits
from worker.intake.values import Array

BLOCK_BYTES = 8 * 1024**2
"""Of text parsed at once: about as many entries as are handled at once elsewhere."""
LONGEST_LINE = 64 * 1024
MOST_COMMENTS = 10_000
FIELDS = frozenset({"integer", "real", "double", "unsigned-integer"})
PARSE = csv.ParseOptions(delimiter=" ", quote_char=False, double_quote=False)
CONVERT = csv.ConvertOptions(
    check_utf8=False,
    null_values=[],
    column_types={"row": pa.int64(), "column": pa.int64(), "value": pa.float64()},
)
BLANKS, MARGINS, COMMENTS = (
    re.compile(rb"[ \t\r\v\f]+"),
    re.compile(rb"(?m)^ | $"),
    re.compile(rb"(?m)^%.*\n?"),
)


@dataclass(frozen=True)
class Size:
    """What the text declares."""

    rows: int
    columns: int
    entries: int


@dataclass(frozen=True)
class Entries:
    """Some entries in the order of the text; positions from 0, not yet proved to be inside."""

    rows: Array
    columns: Array
    values: Array

    def __len__(self) -> int:
        return len(self.values)


def read_size(text: Text) -> Size:
    """The header alone.

    Raises:
        Problem: it is none, or that of a kind of matrix which is no matrix of counts.
    """
    with text.open() as stream:
        return _size(stream, text.pointer)


def read_entries(text: Text) -> Iterator[Entries]:
    """All entries in blocks of bounded memory.

    Raises:
        Problem: a line is no entry, or there are not as many as declared.
    """
    with text.open() as stream:
        size = _size(stream, text.pointer)
        seen = 0
        for block in _lines(stream, text.pointer):
            entries = _parse(block, text.pointer, seen)
            seen += len(entries)
            yield entries
    if seen != size.entries:
        raise located(
            "market-entries",
            text.pointer,
            f"The header declares {size.entries:,} entries, and there are {seen:,}.",
            "The file was cut short or changed: copy it again and compare its SHA-256.",
        )


def _size(stream: BinaryIO, pointer: str) -> Size:
    first = stream.readline(LONGEST_LINE)
    if first.startswith((b"\x1f\x8b", b"PK\x03\x04")):
        raise located(
            "archive-nested",
            pointer,
            "What is packed here is packed once more inside.",
            "Compress the file once.",
        )
    words = first.decode("latin-1").lower().split()
    if len(words) != 5 or words[:2] != ["%%matrixmarket", "matrix"]:
        raise located(
            "market-header",
            pointer,
            "The file does not begin as a Matrix Market file: %%MatrixMarket matrix coordinate "
            "integer general.",
            "Upload matrix.mtx as Cell Ranger or scipy.io.mmwrite wrote it.",
        )
    _judge_kind(words[2:], pointer)
    for _ in range(MOST_COMMENTS):
        line = stream.readline(LONGEST_LINE)
        if line.strip() and not line.startswith(b"%"):
            return _sizes(line, pointer)
        if not line:
            break
    raise _no_sizes(pointer)


def _judge_kind(words: list[str], pointer: str) -> None:
    layout, field, symmetry = words
    if layout == "coordinate" and field in FIELDS and symmetry == "general":
        return
    odd = next(
        word
        for word, good in ((layout, {"coordinate"}), (field, FIELDS), (symmetry, {"general"}))
        if word not in good
    )
    raise located(
        "market-kind",
        pointer,
        f"The matrix is of the Matrix Market kind {odd[:40]!r}, which no matrix of counts is.",
        "Write it as `coordinate integer general`: scipy.io.mmwrite(path, matrix, "
        'field="integer", symmetry="general").',
    )


def _sizes(line: bytes, pointer: str) -> Size:
    words = line.split()
    if len(words) != 3 or not all(word.isdigit() and len(word) < 19 for word in words):
        raise _no_sizes(pointer)
    return Size(*map(int, words))


def _no_sizes(pointer: str) -> Exception:
    return located(
        "market-header",
        pointer,
        "The header does not say the numbers of rows, columns and entries.",
        "Upload matrix.mtx as Cell Ranger or scipy.io.mmwrite wrote it.",
    )


def _lines(stream: BinaryIO, pointer: str) -> Iterator[bytes]:
    """Blocks of whole lines."""
    left = b""
    while chunk := stream.read(BLOCK_BYTES):
        cut = chunk.rfind(b"\n") + 1
        if not cut:
            left += chunk
            if len(left) > BLOCK_BYTES:
                raise _bad_line(pointer, 0, "a line is longer than any entry")
            continue
        yield left + chunk[:cut]
        left = chunk[cut:]
    if left.strip():
        yield left + b"\n"


def _parse(block: bytes, pointer: str, seen: int) -> Entries:
    if not block.strip():
        return Entries(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    try:
        table = _read(block)
    except pa.ArrowInvalid:
        # Tabs, several blanks, comments between the lines: allowed, and rare.
        plain = MARGINS.sub(b"", BLANKS.sub(b" ", COMMENTS.sub(b"", block)))
        if not plain.strip():
            return Entries(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        try:
            table = _read(plain)
        except pa.ArrowInvalid as error:
            raise _bad_line(pointer, seen, str(error).splitlines()[0][:200]) from error
    rows, columns, values = (column.to_numpy() for column in table.columns)
    return Entries(rows - 1, columns - 1, values)


def _read(block: bytes) -> pa.Table:
    read = csv.ReadOptions(
        use_threads=False, block_size=len(block) + 1, column_names=["row", "column", "value"]
    )
    return csv.read_csv(pa.py_buffer(block), read, PARSE, CONVERT).combine_chunks()


def _bad_line(pointer: str, seen: int, said: str) -> Exception:
    return located(
        "market-line",
        pointer,
        f"A line after entry {seen:,} is no entry of a row, a column and a value: {said}",
        "Upload matrix.mtx as Cell Ranger or scipy.io.mmwrite wrote it.",
    )


def read_columns(text: Text, limits: Limits) -> list[pa.Array]:
    """The columns of a table of names without a header, separated by tabs.

    Raises:
        Problem: it is no such table.
    """
    with text.open() as stream:
        data = stream.read(limits.vector_bytes + 1)
    if len(data) > limits.vector_bytes:
        raise located(
            "declares-too-much",
            text.pointer,
            "The table of names is longer than any that a check may hold.",
            "Upload the cells in several files.",
        )
    if not data.strip():
        return [pa.array([], pa.string())]
    width = data.split(b"\n", 1)[0].count(b"\t") + 1
    names = [str(column) for column in range(width)]
    read = csv.ReadOptions(use_threads=False, column_names=names, block_size=len(data) + 1)
    parse = csv.ParseOptions(delimiter="\t", quote_char=False, double_quote=False)
    convert = csv.ConvertOptions(
        null_values=[], strings_can_be_null=False, column_types=dict.fromkeys(names, pa.string())
    )
    try:
        table = csv.read_csv(pa.py_buffer(data), read, parse, convert).combine_chunks()
    except pa.ArrowInvalid as error:
        said = str(error).splitlines()[0][:200]
        raise located(
            "table-lines", text.pointer, f"{text.pointer} is no table of names: {said}"
        ) from error
    columns = [_whole(column) for column in table.columns]
    if b"\0" in data:
        raise located("text-with-nul", text.pointer, f"{text.pointer} holds a NUL character.")
    return columns


def _whole(column: pa.ChunkedArray) -> pa.Array:
    chunks = column.chunks
    return pc.utf8_trim(pa.concat_arrays(chunks), "\r ") if chunks else pa.array([], pa.string())
