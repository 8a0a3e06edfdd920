"""POISSONVI (Martens et al. 2024): scVI of fragment counts in regions, with leaky activations."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models_store.cells import Cells
from models_store.layers import Activation, Codes
from models_store.outputs import OUTPUTS_OF, OutputName
from models_store.scvi import SCVI


class POISSONVI(SCVI):
    """The conditional VAE of one reference version; its likelihood is Poisson's."""

    activation: ClassVar[Activation] = "leaky_relu"
    outputs: ClassVar[tuple[OutputName, ...]] = OUTPUTS_OF["poissonvi"]

    def accessibility(
        self,
        z: Float[Tensor, "c z"],
        codes: Codes,
        *,
        continuous: Float[Tensor, "c n"] | None = None,
    ) -> Float[Tensor, "c r"]:
        """Each region's share of a cell's counts, as if all regions were as often open.

        As scvi-tools gives it: the bias of the output layer, which is what is a region's own, is
        left out.

        Args:
            z: latents, on the simplex for `ln`.
            codes: the batch to decode into, and the extra covariates.
            continuous: continuous covariates; None: 0.
        """
        continuous = self.no_continuous(len(z)) if continuous is None else continuous
        seen = z if continuous is None else torch.cat([z, continuous], dim=-1)
        logits = nn.functional.linear(self.decoder.layers(seen, codes), self.decoder.scale.weight)
        return self.head.scale(logits)

    def decoded(
        self, output: OutputName, z: Float[Tensor, "c z"], cells: Cells
    ) -> Float[Tensor, "c r"]:
        """What `accessibility` gives."""
        return self.accessibility(z, cells.codes, continuous=cells.continuous)
