"""What a save's weights say of the maths of its version, where its options say nothing of it."""

from collections.abc import Callable, Mapping
from math import isqrt
from typing import Any

from torch import Tensor

from models_store import multivi_names, totalvi_names
from models_store.manifest import Architecture, Kind
from models_store.scvi_options import built
from models_store.scvi_saves import Save

State = Mapping[str, Tensor]
FIRST_LAYER = f"{multivi_names.STACKS['gene_encoder.layers']}.fc_layers.Layer 0.0.weight"


def as_its_version_had_it(kind: Kind, a: Architecture, save: Save, state: State) -> Architecture:
    """The architecture of a save, put right where its weights know better.

    Args:
        kind: what it becomes.
        a: as its options have it.
        save: the description.
        state: scvi-tools' state dict.

    Raises:
        InconsistentSave: a size that the weights have is out of its range.
    """
    ask = ASKED.get(kind)
    return a if ask is None else built(a.model_dump() | ask(save, state))


def _total(save: Save, state: State) -> dict[str, Any]:
    """An efficiency of each batch came with 1.3.1, and with it other maths."""
    return {"protein_efficiency": totalvi_names.EFFICIENCY[1] in state}


def _multi(save: Save, state: State) -> dict[str, Any]:
    """Weights of modalities came with 0.18, and with them another penalty.

    Sizes that nobody chose follow from the number of features, in three ways: until 0.17 of genes
    and regions together, then of the regions, which 1.2 gave an upper end.
    """
    known = multivi_names.TENSORS["modality_weights"] in state
    found: dict[str, Any] = {} if known else {"modality_penalty": "exact Jeffreys"}
    first = state.get(FIRST_LAYER)
    if save.options.get("n_hidden") is None and first is not None and first.ndim:
        found["n_hidden"] = len(first)
        found["n_latent"] = save.options.get("n_latent") or isqrt(len(first))
    return found


ASKED: Mapping[Kind, Callable[[Save, State], dict[str, Any]]] = {
    "totalvi": _total,
    "multivi": _multi,
}
