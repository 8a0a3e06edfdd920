"""Byte flips: 1 to 64 bytes of a sound file become others."""

from __future__ import annotations

import numpy as np

MOST = 64
WINDOWS = (64, 512, 4096)


def flipped(base: bytes, rng: np.random.Generator) -> bytes:
    """All over the file, or within one stretch of it: headers are small beside the data."""
    number = int(np.ceil(2 ** rng.uniform(0, np.log2(MOST))))
    start, width = 0, len(base)
    if rng.random() < 0.5:
        start, width = int(rng.integers(len(base))), int(rng.choice(WINDOWS))
    places = (start + rng.choice(width, min(number, width), replace=False)) % len(base)
    damaged = np.frombuffer(base, dtype=np.uint8).copy()
    damaged[np.unique(places)] ^= rng.integers(1, 256, len(np.unique(places)), dtype=np.uint8)
    return damaged.tobytes()
