"""How one of our tensors is a part of one of scvi-tools'.

scvi-tools keeps one wide matrix for a layer, [x | continuous | one-hot of each covariate]; here
each covariate's columns become its table of rows, so surgery can add to one without moving
another. A covariate of one category has no column there and a row of zeros here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from models_store.coders import Dispersion
from models_store.layers import ConditionalLinear, FullyConnected


@dataclass(frozen=True)
class Piece:
    """One tensor of ours, the tensor of theirs that it is part of, and that one's due shape."""

    ours: str
    theirs: str
    shape: tuple[int, ...]
    take: Callable[[Tensor], Tensor]
    optional: bool = False


def of_stack(ours: str, theirs: str, stack: FullyConnected) -> Iterator[Piece]:
    """Of hidden layers and their norms."""
    for i, (linear, block) in enumerate(zip(stack.linears, stack.blocks, strict=True)):
        assert isinstance(linear, ConditionalLinear)
        layer = f"{theirs}.fc_layers.Layer {i}"
        yield from of_conditional(f"{ours}.linears.{i}", f"{layer}.0", linear)
        n_out = linear.b.shape[0]
        names = (name for name, _ in block.named_parameters())
        buffers = (name for name, _ in block.named_buffers())
        for name in (*names, *buffers):
            where = f"{layer}.1.{name.removeprefix('batch_norm.')}"
            counts = name.endswith("num_batches_tracked")
            shape = () if counts else (n_out,)
            yield Piece(f"{ours}.blocks.{i}.{name}", where, shape, same, optional=counts)


def of_conditional(ours: str, theirs: str, linear: ConditionalLinear) -> Iterator[Piece]:
    """Of a layer that may see covariates."""
    n_in, n_out = linear.W_x.shape
    tables = [len(table.reference) for table in linear.covariate_rows()]
    widths = [n if n > 1 else 0 for n in tables]
    shape = (n_out, n_in + sum(widths))
    yield Piece(f"{ours}.W_x", f"{theirs}.weight", shape, _columns(0, n_in))
    yield Piece(f"{ours}.b", f"{theirs}.bias", (n_out,), same)
    start = n_in
    for k, width in enumerate(widths):
        if width:
            take = _columns(start, start + width)
            yield Piece(f"{ours}.covariates.{k}.reference", f"{theirs}.weight", shape, take)
        start += width


def of_head(ours: str, theirs: str, head: nn.Linear) -> Iterator[Piece]:
    """Of a plain linear layer."""
    n_out, n_in = head.weight.shape
    yield Piece(f"{ours}.weight", f"{theirs}.weight", (n_out, n_in), same)
    yield Piece(f"{ours}.bias", f"{theirs}.bias", (n_out,), same)


def of_table(ours: str, theirs: str, table: Dispersion, *, of_all: bool) -> Iterator[Piece]:
    """Of rows by category, which are columns there; `of_all`: one row, which is a vector there."""
    n_rows, width = table.reference.shape
    if of_all:
        yield Piece(f"{ours}.reference", theirs, (width,), lambda row: row.unsqueeze(0))
    elif n_rows:
        yield Piece(f"{ours}.reference", theirs, (width, n_rows), transposed)


def _columns(start: int, stop: int) -> Callable[[Tensor], Tensor]:
    return lambda weight: weight[:, start:stop].T


def same(values: Tensor) -> Tensor:
    """As it stands."""
    return values


def transposed(values: Tensor) -> Tensor:
    """Columns as rows."""
    return values.T
