"""Changing metadata that HDF5 protects by a checksum, so that the change is what it meets."""

from __future__ import annotations

MASK = 0xFFFFFFFF
FURTHEST = 4096


def change(content: bytes, at: int, new: bytes, *, block: bytes = b"OHDR") -> bytes:
    """`new` at one place, and the checksum of the block around it made to fit."""
    changed = content[:at] + new + content[at + len(new) :]
    start = content.rindex(block, 0, at + len(block))
    for end in range(at + len(new), min(at + FURTHEST, len(content) - 4)):
        if lookup3(content[start:end]).to_bytes(4, "little") == content[end : end + 4]:
            fitting = lookup3(changed[start:end]).to_bytes(4, "little")
            return changed[:end] + fitting + changed[end + 4 :]
    raise AssertionError("nothing here has a checksum")


def lookup3(data: bytes) -> int:
    """Bob Jenkins' lookup3 (2006, public domain), the checksum of HDF5's metadata."""
    a = b = c = (0xDEADBEEF + len(data)) & MASK
    while len(data) > 12:
        a, b, c = _added((a, b, c), data)
        for by in (4, 6, 8, 16, 19, 4):
            a = ((a - c) & MASK) ^ _turned(c, by)
            c = (c + b) & MASK
            a, b, c = b, c, a
        data = data[12:]
    if not data:
        return c
    a, b, c = _added((a, b, c), data.ljust(12, b"\0"))
    for by in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _turned(b, by)) & MASK
        a, b, c = b, c, a
    return b


def _added(state: tuple[int, int, int], data: bytes) -> tuple[int, ...]:
    parts = (int.from_bytes(data[at : at + 4], "little") for at in (0, 4, 8))
    return tuple((x + y) & MASK for x, y in zip(state, parts, strict=True))


def _turned(value: int, by: int) -> int:
    return ((value << by) | (value >> (32 - by))) & MASK
