"""Chunks whose stored bytes cannot fill them: the HDF5 library would read on beyond their end."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from h5py import h5t

DEFLATE, SHUFFLE, FLETCHER32, LZF = 1, 2, 3, 32000
CHECKSUM_BYTES = 4
VARIABLE_ITEM = 16
"""What a text or a list of any length takes in an array: its length and where it is."""
MOST_EXPANSION = {DEFLATE: 1032, LZF: 132}
"""A filter's output over its input at most; deflate's by its format, lzf's 264 bytes from 2."""


def short_chunk(dataset: h5py.Dataset) -> tuple[int, ...] | None:
    """Where the first chunk begins that its stored bytes cannot fill; None if all can be.

    The library hands a chunk's bytes on as if there were as many as the chunk declares, whatever
    came out of its filters. Filters whose expansion is not known here are trusted.
    """
    if not dataset.chunks:
        return None
    properties = dataset.id.get_create_plist()
    codes = [properties.get_filter(at)[0] for at in range(properties.get_nfilters())]
    full = int(np.prod(dataset.chunks)) * _stored_size(dataset.id.get_type())
    known: dict[int, tuple[int, bool]] = {}

    def judge(chunk: Any) -> tuple[int, ...] | None:
        mask = chunk.filter_mask
        if mask not in known:
            known[mask] = _least(full, codes, mask)
        wanted, exactly = known[mask]
        sound = chunk.size == wanted if exactly else chunk.size >= wanted
        return None if sound else tuple(chunk.chunk_offset)

    found: tuple[int, ...] | None = dataset.id.chunk_iter(judge)
    return found


def _stored_size(kind: h5t.TypeID) -> int:
    """Bytes of an item in the file; for what has any length the library tells those in memory."""
    if isinstance(kind, h5t.TypeVlenID) or (
        isinstance(kind, h5t.TypeStringID) and kind.is_variable_str()
    ):
        return VARIABLE_ITEM
    if isinstance(kind, h5t.TypeArrayID):
        n_items = int(np.prod(kind.get_array_dims()))
        return n_items * _stored_size(kind.get_super())
    if isinstance(kind, h5t.TypeCompoundID):
        members = [kind.get_member_type(at) for at in range(kind.get_nmembers())]
        more = sum(_stored_size(member) - int(member.get_size()) for member in members)
        return int(kind.get_size()) + more
    return int(kind.get_size())


def _least(full: int, codes: list[int], mask: int) -> tuple[int, bool]:
    """How many bytes a chunk must store when `mask` skips some filters, and if just so many."""
    applied = [code for at, code in enumerate(codes) if not mask >> at & 1]
    checksum = CHECKSUM_BYTES if FLETCHER32 in applied else 0
    packing = [code for code in applied if code not in {SHUFFLE, FLETCHER32}]
    if not packing:
        return full + checksum, True
    if any(code not in MOST_EXPANSION for code in packing):
        return 1 + checksum, False
    expansion = int(np.prod([MOST_EXPANSION[code] for code in packing]))
    return -(-full // expansion) + checksum, False
