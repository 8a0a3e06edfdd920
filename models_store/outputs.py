"""What networks decode beyond the latent, by name, torch-free.

normalised_expression   each gene's share of the RNA of a cell, rows over all genes sum to 1
accessibility           the probability that a region is open, cell and region factors left out; of
                        POISSONVI a region's share of the fragments of a cell
protein_foreground      expected counts of a protein beyond its background
protein_probability     the probability that a protein's count is foreground
"""

from collections.abc import Mapping
from typing import Literal, get_args

from models_store.architecture import Kind
from models_store.feature_kinds import FeatureKind

OutputName = Literal[
    "normalised_expression", "accessibility", "protein_foreground", "protein_probability"
]
OUTPUTS: tuple[OutputName, ...] = get_args(OutputName)
FEATURES_OF: Mapping[OutputName, FeatureKind] = {
    "normalised_expression": "gene",
    "accessibility": "region",
    "protein_foreground": "protein",
    "protein_probability": "protein",
}
OUTPUTS_OF: Mapping[Kind, tuple[OutputName, ...]] = {
    "scvi": ("normalised_expression",),
    "scanvi": ("normalised_expression",),
    "peakvi": ("accessibility",),
    "poissonvi": ("accessibility",),
    "totalvi": ("normalised_expression", "protein_foreground", "protein_probability"),
    "multivi": ("normalised_expression", "accessibility", "protein_probability"),
}
"""What a network of each kind can decode, of those kinds of features that it has."""
