"""Where scvi-tools' MULTIVI keeps what MULTIVI has here: ours to theirs."""

import re
from collections.abc import Mapping

STACKS: Mapping[str, str] = {
    "gene_encoder.layers": "z_encoder_expression.encoder",
    "region_encoder.layers": "z_encoder_accessibility.encoder",
    "protein_encoder.layers": "z_encoder_protein.encoder",
    "library_encoder.layers": "l_encoder_expression.px_decoder",
    "depth_encoder.layers": "l_encoder_accessibility.px_decoder",
    "gene_decoder.decoder.layers": "z_decoder_expression.px_decoder",
    "region_decoder.layers": "z_decoder_accessibility.px_decoder",
    "protein_decoder.background.layers": "z_decoder_pro.py_back_decoder",
    "protein_decoder.foreground.layers": "z_decoder_pro.py_fore_decoder",
    "protein_decoder.mixing.layers": "z_decoder_pro.sigmoid_decoder",
}
"""Stacks of conditional layers."""
OUTPUTS: Mapping[str, str] = {
    "protein_decoder.background.outputs.mean": "z_decoder_pro.py_back_mean_log_alpha",
    "protein_decoder.background.outputs.sd": "z_decoder_pro.py_back_mean_log_beta",
    "protein_decoder.foreground.outputs.scale": "z_decoder_pro.py_fore_scale_decoder",
    "protein_decoder.mixing.outputs.proteins": "z_decoder_pro.py_background_decoder",
}
"""Conditional layers that give an output; there, stacks of one."""
HEADS: Mapping[str, str] = {
    "gene_encoder.mean": "z_encoder_expression.mean_encoder",
    "gene_encoder.log_variance": "z_encoder_expression.var_encoder",
    "region_encoder.mean": "z_encoder_accessibility.mean_encoder",
    "region_encoder.log_variance": "z_encoder_accessibility.var_encoder",
    "protein_encoder.mean": "z_encoder_protein.mean_encoder",
    "protein_encoder.log_variance": "z_encoder_protein.var_encoder",
    "library_encoder.output": "l_encoder_expression.output.0",
    "depth_encoder.output": "l_encoder_accessibility.output.0",
    "gene_decoder.decoder.scale": "z_decoder_expression.px_scale_decoder.0",
    "gene_decoder.decoder.pi": "z_decoder_expression.px_dropout_decoder",
    "gene_decoder.decoder.log_theta": "z_decoder_expression.px_r_decoder",
    "region_decoder.output": "z_decoder_accessibility.output.0",
}
"""Plain linear layers."""
DISPERSIONS: Mapping[str, str] = {
    "gene_decoder.dispersion": "px_r",
    "protein_decoder.dispersion": "py_r",
}
"""Tables by batch or of all; there, the transpose."""
TENSORS: Mapping[str, str] = {
    "modality_weights": "mod_weights",
    "region_factors": "region_factors",
}
"""Tensors that are the same here and there."""

UNUSED = re.compile(
    r"^(z_decoder_expression|z_decoder_accessibility|z_decoder_pro)\."
    r"|^(l_encoder_expression|l_encoder_accessibility)\."
    r"|^(background_pro_alpha|background_pro_log_beta|px_r|py_r|region_factors)$"
)
"""Weights that are saved whatever a model was made for; those that it needs are asked for first."""
