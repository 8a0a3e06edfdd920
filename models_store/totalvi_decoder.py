"""The decoder of totalVI: four branches, each of hidden layers and of outputs that see z as well.

Unlike the heads of `coders.Decoder` these outputs look at the covariates, so that surgery adds to
each of them a row as long as its genes or proteins. Notation as in `layers`; p proteins.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models_store.coders import decoder_layers
from models_store.layers import Codes, ConditionalLinear
from models_store.manifest import Architecture
from models_store.protein_likelihood import ProteinOutput


class Branch(nn.Module):
    """Hidden layers of [z | continuous], and outputs of [h | z | continuous]."""

    def __init__(
        self, n_in: int, outputs: Mapping[str, int], a: Architecture, n_categories: Sequence[int]
    ) -> None:
        super().__init__()
        dropout_rate = a.decoder_dropout_rate
        self.layers = decoder_layers(n_in, a, n_categories, dropout_rate=dropout_rate)
        self.outputs = nn.ModuleDict(
            {
                name: ConditionalLinear(a.n_hidden + n_in, n_out, n_categories)
                for name, n_out in outputs.items()
            }
        )

    def output(self, name: str) -> ConditionalLinear:
        """One of its outputs."""
        found = self.outputs[name]
        assert isinstance(found, ConditionalLinear)
        return found

    def forward(self, seen: Float[Tensor, "c n_in"], codes: Codes) -> dict[str, Tensor]:
        """Every output of these cells, (c, n_out)."""
        h = torch.cat([self.layers(seen, codes), seen], dim=-1)
        return {name: output(h, codes) for name, output in self.outputs.items()}


@dataclass(frozen=True)
class TotalOutput:
    """Raw outputs for the genes, (c, g), and for the proteins; pi: zero inflation, zinb only."""

    logits: Float[Tensor, "c g"]
    pi: Float[Tensor, "c g"] | None
    proteins: ProteinOutput


class TotalDecoder(nn.Module):
    """[z | continuous] and covariates to the raw outputs of both likelihoods."""

    def __init__(self, n_in: int, a: Architecture, n_categories: Sequence[int]) -> None:
        super().__init__()
        g, p = a.n_genes, a.n_proteins
        mixed = {"proteins": p} | ({"genes": g} if a.likelihood == "zinb" else {})
        self.genes = Branch(n_in, {"scale": g}, a, n_categories)
        self.background = Branch(n_in, {"mean": p, "sd": p}, a, n_categories)
        self.foreground = Branch(n_in, {"scale": p}, a, n_categories)
        self.mixing = Branch(n_in, mixed, a, n_categories)

    def forward(self, seen: Float[Tensor, "c n_in"], codes: Codes) -> TotalOutput:
        """All outputs of these cells."""
        genes = self.genes(seen, codes)["scale"]
        back, fore = self.background(seen, codes), self.foreground(seen, codes)["scale"]
        mixed = self.mixing(seen, codes)
        proteins = ProteinOutput(back["mean"], back["sd"], fore, mixed["proteins"])
        return TotalOutput(genes, mixed.get("genes"), proteins)
