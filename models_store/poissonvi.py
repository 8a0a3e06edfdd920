"""POISSONVI (Martens et al. 2024): scVI of fragment counts in regions, with leaky activations."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models_store.layers import Activation, Codes
from models_store.scvi import SCVI


class POISSONVI(SCVI):
    """The conditional VAE of one reference version; its likelihood is Poisson's."""

    activation: ClassVar[Activation] = "leaky_relu"

    def accessibility(
        self,
        z: Float[Tensor, "c z"],
        codes: Codes,
        *,
        regions: Tensor | None = None,
    ) -> Float[Tensor, "c r"]:
        """Each region's share of a cell's counts, as if all regions were as often open.

        As scvi-tools gives it: the bias of the output layer, which is what is a region's own, is
        left out. Continuous covariates are 0. `regions`: positions of those that are wanted.
        """
        continuous = self.no_continuous(len(z))
        seen = z if continuous is None else torch.cat([z, continuous], dim=-1)
        logits = nn.functional.linear(self.decoder.layers(seen, codes), self.decoder.scale.weight)
        shares = self.head.scale(logits)
        return shares if regions is None else shares[:, regions]
