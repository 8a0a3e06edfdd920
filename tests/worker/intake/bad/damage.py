"""Bytes that are no HDF5 file, only a part of one, two files in one, or damaged."""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile

import h5py
import numpy as np

from . import checksums
from .registry import BadFile, bytes_changed, enter

OTHER, CUT, DAMAGED, POLYGLOT = "other files", "cut files", "damaged metadata", "polyglots"


def _zip(content: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("query.h5ad", content)
    return sink.getvalue()


def _npz(content: bytes) -> bytes:
    sink = io.BytesIO()
    np.savez(sink, counts=np.ones((2, 2)))
    return sink.getvalue()


OTHERS = {
    "text": lambda sound: b"cell,gene,count\n" * 100,
    "gzip": lambda sound: gzip.compress(sound),
    "zip": _zip,
    "numpy_archive": _npz,
    "numpy_array": lambda sound: b"\x93NUMPY\x01\x00" + bytes(200),
    "pickle": lambda sound: pickle.dumps({"X": list(range(100))}),
    "r_data": lambda sound: b"RDX3\nX\n" + bytes(200),
    "html": lambda sound: b"<!DOCTYPE html><title>Log in</title>",
    "pdf": lambda sound: b"%PDF-1.7\n" + bytes(600),
    "program": lambda sound: b"\x7fELF" + bytes(600),
    "zeros": lambda sound: bytes(4096),
    "one_byte": lambda sound: b"\x89",
    "matrix_market": lambda sound: b"%%MatrixMarket matrix coordinate integer general\n1 1 1\n",
    "hdf4": lambda sound: b"\x0e\x03\x13\x01" + bytes(600),
    "wrong_signature": lambda sound: b"\x89HDF\n\n\x1a\n" + sound[8:],
}
for name, change in OTHERS.items():
    bytes_changed(OTHER, f"other_{name}", change, "not-hdf5")
bytes_changed(OTHER, "other_empty", lambda sound: b"", "empty-file")

for share in (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
    bytes_changed(CUT, f"cut_at_{share}", lambda s, share=share: s[: int(len(s) * share)])
for kept in (8, 9, 16, 48, 96, 800):
    bytes_changed(CUT, f"cut_after_{kept}_bytes", lambda s, kept=kept: s[:kept])
bytes_changed(CUT, "cut_by_one_byte", lambda s: s[:-1])
bytes_changed(CUT, "cut_new_layout", lambda s: s[: len(s) // 2], libver="latest")
bytes_changed(CUT, "cut_inside", lambda s: s[:1000] + s[2000:])


def _put(at: int, new: bytes):
    return lambda sound: sound[:at] + new + sound[at + len(new) :]


UNDEFINED = b"\xff" * 8
for at, new, name in (
    (8, b"\x09", "superblock_of_version_9"),
    (8, b"\x01", "superblock_0_called_1"),
    (8, b"\x02", "superblock_0_called_2"),
    (13, b"\x03", "addresses_of_3_bytes"),
    (13, b"\x00", "addresses_of_no_bytes"),
    (14, b"\x20", "lengths_of_32_bytes"),
    (16, b"\xff\xff", "leaves_of_65535"),
    (24, b"\x00\x02\x00\x00\x00\x00\x00\x00", "base_beyond_the_header"),
    (40, b"\xff" * 7 + b"\x7f", "end_beyond_everything"),
    (64, UNDEFINED, "root_nowhere"),
    (64, b"\x08" + bytes(7), "root_in_the_header"),
    (48, b"\x60" + bytes(7), "driver_block_in_the_root"),
):
    bytes_changed(DAMAGED, name, _put(at, new))


def _every(old: bytes, new: bytes):
    return lambda sound: sound.replace(old, new)


bytes_changed(DAMAGED, "end_before_the_data", _put(40, b"\x10" + bytes(7)), "trailing-bytes")
for old, name in ((b"SNOD", "no_symbol_tables"), (b"TREE", "no_trees"), (b"HEAP", "no_heaps")):
    bytes_changed(DAMAGED, name, _every(old, b"XXXX"))
bytes_changed(DAMAGED, "no_text_heaps", _every(b"GCOL", b"XXXX"), pointer="/obs/_index")
bytes_changed(DAMAGED, "no_object_headers", _every(b"OHDR", b"XXXX"), libver="latest")
for at in (9, 10, 12, 28, 36, 44):
    bytes_changed(DAMAGED, f"new_superblock_at_{at}", _put(at, b"\x77"), libver="latest")
bytes_changed(
    DAMAGED,
    "still_open_for_writing",
    lambda s: checksums.change(s, 11, b"\x05", block=s[:8]),
    "damaged-file",
    libver="latest",
)
bytes_changed(DAMAGED, "zeros_inside", lambda s: s[:100] + bytes(400) + s[500:])
bytes_changed(DAMAGED, "trees_that_are_their_own_children", lambda s: _own_child(s))


def _own_child(content: bytes) -> bytes:
    """The root's tree, its level raised to 1, and its first child itself: a circle."""
    at = content.index(b"TREE")
    changed = bytearray(content)
    changed[at + 5] = 1
    changed[at + 32 : at + 40] = at.to_bytes(8, "little")
    return bytes(changed)


for name, head in {
    "script": b"#!/bin/sh\nexit 0\n",
    "zip_before": b"PK\x03\x04" + bytes(26),
    "pdf_before": b"%PDF-1.7\n%\n",
    "html_before": b"<html><script>alert(1)</script></html>",
    "zeros_before": b"",
}.items():
    bytes_changed(POLYGLOT, name, lambda s, head=head: head.ljust(512, b"\n") + s, "user-block")
bytes_changed(POLYGLOT, "header_at_2048", lambda s: bytes(2048) + s, "user-block")
bytes_changed(POLYGLOT, "zip_after", lambda s: s + _zip(b"hidden"), "trailing-bytes")
bytes_changed(POLYGLOT, "html_after", lambda s: s + b"<script>alert(1)</script>", "trailing-bytes")
bytes_changed(
    POLYGLOT,
    "zip_far_after",
    lambda s: s + bytes(300_000) + _zip(b"hidden"),
    "trailing-bytes",
)
bytes_changed(
    POLYGLOT, "zip_after_new_layout", lambda s: s + _zip(b"x"), "trailing-bytes", libver="latest"
)


def _loom(folder):
    path = folder / "query.h5ad"
    with h5py.File(path, "w") as file:
        file["matrix"] = np.ones((3, 4))
        file.create_group("row_attrs"), file.create_group("col_attrs")
    return path


def _seurat(folder):
    path = folder / "query.h5ad"
    with h5py.File(path, "w") as file:
        file["assays/RNA/counts/data"] = np.ones(4)
        file["meta.data/nCount"] = np.ones(4)
    return path


def _nothing(folder):
    path = folder / "query.h5ad"
    h5py.File(path, "w").close()
    return path


enter(BadFile("loom", OTHER, _loom, ("other-format",), "/"))
enter(BadFile("seurat", OTHER, _seurat, ("table-missing",), "/"))
enter(BadFile("hdf5_without_anything", OTHER, _nothing, ("table-missing",), "/"))
