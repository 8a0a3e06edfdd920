"""Where scvi-tools' TOTALVI keeps what totalVI has here: ours to theirs."""

from collections.abc import Mapping

STACKS: Mapping[str, str] = {
    "z_encoder.layers": "encoder.encoder",
    "library_encoder.layers": "encoder.l_gene_encoder",
    "decoder.genes.layers": "decoder.px_decoder",
    "decoder.background.layers": "decoder.py_back_decoder",
    "decoder.foreground.layers": "decoder.py_fore_decoder",
    "decoder.mixing.layers": "decoder.sigmoid_decoder",
}
"""Stacks of conditional layers."""
OUTPUTS: Mapping[str, str] = {
    "decoder.genes.outputs.scale": "decoder.px_scale_decoder",
    "decoder.background.outputs.mean": "decoder.py_back_mean_log_alpha",
    "decoder.background.outputs.sd": "decoder.py_back_mean_log_beta",
    "decoder.foreground.outputs.scale": "decoder.py_fore_scale_decoder",
    "decoder.mixing.outputs.proteins": "decoder.py_background_decoder",
    "decoder.mixing.outputs.genes": "decoder.px_dropout_decoder_gene",
}
"""Conditional layers that give an output; there, stacks of one."""
HEADS: Mapping[str, str] = {
    "z_encoder.mean": "encoder.z_mean_encoder",
    "z_encoder.log_variance": "encoder.z_var_encoder",
    "library_encoder.mean": "encoder.l_gene_mean_encoder",
    "library_encoder.log_variance": "encoder.l_gene_var_encoder",
}
"""Plain linear layers."""
DISPERSIONS: Mapping[str, str] = {"dispersion": "px_r", "proteins.dispersion": "py_r"}
"""Tables by batch or label, or of all; there, the transpose."""
BACKGROUNDS: Mapping[str, str] = {
    "proteins.background_mean": "background_pro_alpha",
    "proteins.background_log_sd": "background_pro_log_beta",
}
"""Tables by batch or panel; there, the transpose."""
EFFICIENCY = ("proteins.log_efficiency", "log_per_batch_efficiency")
