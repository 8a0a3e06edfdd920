"""What totalVI has beside stacks and heads, as parts of scvi-tools' tensors."""

from collections.abc import Iterator

from models_store import totalvi_names
from models_store.coders import Dispersion
from models_store.layers import ConditionalLinear
from models_store.scvi_pieces import Piece, of_conditional, of_table, transposed
from models_store.totalvi import TOTALVI


def total_pieces(network: TOTALVI) -> Iterator[Piece]:
    """Outputs that see covariates, dispersions, backgrounds and efficiencies."""
    modules, a = dict(network.named_modules()), network.architecture
    for ours, theirs in totalvi_names.OUTPUTS.items():
        linear = modules.get(ours)
        if isinstance(linear, ConditionalLinear):
            yield from of_conditional(ours, f"{theirs}.fc_layers.Layer 0.0", linear)
    of_all = {"dispersion": a.dispersion == "gene"}
    of_all["proteins.dispersion"] = a.protein_dispersion == "protein"
    tables = {**totalvi_names.DISPERSIONS, **totalvi_names.BACKGROUNDS}
    for ours, theirs in tables.items():
        table = modules[ours]
        assert isinstance(table, Dispersion)
        yield from of_table(ours, theirs, table, of_all=of_all.get(ours, False))
    n_batches, n_proteins = network.proteins.log_efficiency.shape
    if n_batches:
        yield Piece(*totalvi_names.EFFICIENCY, (n_proteins, n_batches), transposed)
