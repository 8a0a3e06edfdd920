"""Matrix Market text, read in blocks of lines, and the tables of names that stand beside it."""

from __future__ import annotations

import codecs
import csv
import io
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from worker.intake.archives import Text
from worker.intake.findings import located
from worker.intake.limits import Limits
from worker.intake.values import Array

BLOCK_BYTES = 8 * 1024**2
"""Of text parsed at once: about as many entries as are handled at once elsewhere."""
LONGEST_LINE = 64 * 1024
MOST_COMMENTS = 10_000
FIELDS = frozenset({"integer", "real", "double", "unsigned-integer"})
COLUMNS = {"row": np.int64, "column": np.int64, "value": np.float64}
AS_WRITTEN = "Upload the three files as they were written together, by Cell Ranger for example."
SHORTEST = b"1 1 1\n"
NOT_NUMBERS = ("nan", "NaN", "NAN", "-nan")
COMMENTS = re.compile(rb"(?m)^[ \t]*%.*\n?")
LETTERS = b"0123456789+-.eE \t\r\n\v\f" + b"nNaA" + b"iIfFtTyY"
"""Of numbers however they are written, infinite and undefined ones too."""


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
    parsed = _whole_numbers(block)
    if parsed is not None:
        return parsed
    plain = COMMENTS.sub(b"", block) if b"%" in block else block
    if not plain.strip():
        return Entries(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    if odd := plain.translate(None, LETTERS):
        raise _bad_line(pointer, seen, f"{odd[:20]!r} is in no number")
    try:
        table = _read(plain)
    except (ValueError, OverflowError, Warning) as error:
        said = " ".join(str(error).split())[:200]
        raise _bad_line(pointer, seen, said) from error
    rows, columns, values = (table[name].to_numpy() for name in COLUMNS)
    return Entries(rows - 1, columns - 1, values)


def _whole_numbers(block: bytes) -> Entries | None:
    """Lines of three whole numbers and single blanks, as nearly all are; None for any other."""
    if len(SHORTEST) * block.count(b"\n") > len(block):
        return None
    letters = np.frombuffer(block, dtype=np.uint8)
    between = np.flatnonzero((letters - 48) > 9)  # unsigned: what is below 48 comes out large
    if not len(between) or len(between) % 3 or between[-1] != len(letters) - 1:
        return None
    if between[0] == 0 or (np.diff(between) < 2).any():
        return None
    found = letters[between]
    if not ((found[2::3] == 10).all() and (found[0::3] == 32).all() and (found[1::3] == 32).all()):
        return None
    numbers = np.fromstring(block, dtype=np.int64, sep=" ")
    return Entries(numbers[0::3] - 1, numbers[1::3] - 1, numbers[2::3].astype(np.float64))


def _read(block: bytes) -> pd.DataFrame:
    """Numbers of any kind, with any blanks between them, by a parser that needs no threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # more numbers in a line than three
        return pd.read_csv(
            io.BytesIO(block),
            sep=r"\s+",
            header=None,
            names=list(COLUMNS),
            index_col=False,
            dtype=COLUMNS,
            keep_default_na=False,
            na_values={"value": list(NOT_NUMBERS)},
            engine="c",
            low_memory=False,
            quoting=csv.QUOTE_NONE,
        )


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
    read = bytearray()
    with text.open() as stream:
        while len(read) <= limits.vector_bytes and (chunk := stream.read(BLOCK_BYTES)):
            read += chunk
    data = bytes(read)
    if len(data) > limits.vector_bytes:
        raise located(
            "declares-too-much",
            text.pointer,
            "The table of names is longer than any that a check may hold.",
            "Upload the cells in several files.",
        )
    plain = data.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
    lines = _lines_of(plain, text.pointer)
    fields = pc.split_pattern(lines, "\t")
    widths = pc.unique(pc.list_value_length(fields)).to_pylist()
    if len(widths) > 1:
        raise located(
            "table-lines",
            text.pointer,
            f"Lines of {text.pointer} have {min(widths)} columns, and others {max(widths)}.",
            "Upload the files as Cell Ranger wrote them, separated by tabs.",
        )
    return [
        pc.utf8_trim_whitespace(pc.list_element(fields, column))
        for column in range(widths[0] if widths else 1)
    ]


def _lines_of(data: bytes, pointer: str) -> pa.Array:
    """Lines that are not empty, proved to be text."""
    if b"\0" in data:
        said = f"{pointer} holds a NUL character."
        raise located("text-with-nul", pointer, said, AS_WRITTEN)
    if data and not data.endswith(b"\n"):
        data += b"\n"
    ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == 10)
    # Without the line ends the lines follow each other as Arrow keeps them.
    offsets = np.concatenate([[0], ends - np.arange(len(ends))]).astype(np.int32)
    plain = data.replace(b"\n", b"")
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(plain)]
    lines = pa.Array.from_buffers(pa.string(), len(ends), buffers)
    try:
        lines.validate(full=True)
    except pa.ArrowInvalid as error:
        said = f"{pointer} is no text in UTF-8."
        raise located("table-lines", pointer, said, AS_WRITTEN) from error
    return lines.filter(pc.not_equal(pc.binary_length(lines), 0))
