"""Blocks of cells, the unit in which cells are encoded; without torch, for who only counts them."""

from collections.abc import Iterator

BLOCK = 1024
"""Cells in a block. Every cell passes through matrix products of just so many rows."""
MOST_DECODED = 2**25
"""Numbers of a decoder that are held at a time: 128 MB, whatever the number of features."""

MOST_JUDGED = 2**23
"""Features of cells that are worked on together: 32 MB for each number of a feature."""


def decoded_at_once(n_features: int) -> int:
    """Cells whose features are decoded together, where each figure is of a cell alone."""
    return max(1, min(BLOCK, MOST_DECODED // n_features))


def judged_at_once(n_features: int) -> int:
    """Cells whose loss is found together: some numbers are held of each of their features."""
    return max(1, min(BLOCK, MOST_JUDGED // n_features))


def block_ranges(n_cells: int, start: int = 0) -> Iterator[tuple[int, int]]:
    """Start and stop of each block, from `start`, itself a multiple of a block, up to `n_cells`."""
    for at in range(start, n_cells, BLOCK):
        yield at, min(at + BLOCK, n_cells)


def shard_ranges(n_cells: int, shard_cells: int) -> list[tuple[int, int]]:
    """Start and stop of the fewest shards of at most about `shard_cells` cells, of like size.

    A shard is a multiple of a block, so that its cells stand in the same blocks as in the whole.
    """
    n_blocks = -(-n_cells // BLOCK)
    n_shards = max(1, -(-n_cells // max(shard_cells, BLOCK)))
    blocks_each = -(-n_blocks // n_shards)
    size = blocks_each * BLOCK
    return [(at, min(at + size, n_cells)) for at in range(0, n_cells, size)]
