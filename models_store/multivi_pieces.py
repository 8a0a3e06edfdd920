"""What MULTIVI has beside stacks and heads, as parts of scvi-tools' tensors."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from models_store.coders import Dispersion
from models_store.layers import ConditionalLinear
from models_store.multivi import MULTIVI
from models_store.multivi_names import DISPERSIONS, OUTPUTS, TENSORS
from models_store.scvi_pieces import Piece, of_conditional, of_table, same

PROTEIN_ENCODER = ("protein_encoder.", "z_encoder_protein.")


def multi_pieces(network: MULTIVI) -> Iterator[Piece]:
    """Outputs that see covariates, dispersions, weights of modalities, factors of regions."""
    modules, tensors = dict(network.named_modules()), network.state_dict()
    by_batch = list(network.batch_tables())
    for ours, theirs in OUTPUTS.items():
        if isinstance(linear := modules.get(ours), ConditionalLinear):
            yield from of_conditional(ours, f"{theirs}.fc_layers.Layer 0.0", linear)
    for ours, theirs in DISPERSIONS.items():
        if isinstance(table := modules.get(ours), Dispersion):
            yield from of_table(ours, theirs, table, of_all=table not in by_batch)
    for ours, theirs in TENSORS.items():
        if ours in tensors:
            # The first versions had no weights of modalities, which is to say equal ones.
            optional = ours == "modality_weights"
            yield Piece(ours, theirs, tuple(tensors[ours].shape), same, optional=optional)


@torch.no_grad()
def without_proteins(
    network: MULTIVI, pieces: list[Piece], state: Mapping[str, Tensor]
) -> list[Piece]:
    """The pieces that a save has: those of before 0.18 know no proteins, and encode none.

    The encoder of proteins, which no cell is then seen by, is 0.
    """
    ours, theirs = PROTEIN_ENCODER
    if network.protein_decoder is not None or any(name.startswith(theirs) for name in state):
        return pieces
    for values in network.protein_encoder.parameters():
        values.zero_()
    return [piece for piece in pieces if not piece.ours.startswith(ours)]
