"""What scvi-tools calls the parts of PEAKVI."""

from collections.abc import Mapping

STACKS: Mapping[str, str] = {
    "z_encoder.layers": "z_encoder.encoder",
    "depth_encoder.layers": "d_encoder.px_decoder",
    "decoder.layers": "z_decoder.px_decoder",
}
HEADS: Mapping[str, str] = {
    "z_encoder.mean": "z_encoder.mean_encoder",
    "z_encoder.log_variance": "z_encoder.var_encoder",
    "depth_encoder.output": "d_encoder.output.0",
    "decoder.output": "z_decoder.output.0",
}
FACTORS = "region_factors"
"""Here and there."""
