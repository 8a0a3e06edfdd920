"""scvi-tools' weights under Cellgraft's names: one table for each kind, every shape checked.

What is a part of what: see `scvi_pieces`.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from models_store import multivi_names, region_names, totalvi_names
from models_store.cvae import CVAE
from models_store.kinds import NETWORKS
from models_store.layers import FullyConnected
from models_store.manifest import Architecture, Kind, LabelLevel
from models_store.multivi import MULTIVI
from models_store.multivi_options import multi_architecture_of
from models_store.multivi_pieces import multi_pieces, without_proteins
from models_store.older_saves import as_its_version_had_it
from models_store.peakvi import PEAKVI
from models_store.region_options import region_architecture_of
from models_store.scvi import SCVI
from models_store.scvi_options import architecture_of
from models_store.scvi_pieces import (
    Piece,
    of_head,
    of_stack,
    of_table,
    same,
)
from models_store.scvi_saves import InconsistentSave, Save
from models_store.totalvi import TOTALVI
from models_store.totalvi_options import total_architecture_of
from models_store.totalvi_pieces import total_pieces

State = Mapping[str, Tensor]

KINDS: Mapping[str, Kind] = {
    "SCVI": "scvi",
    "SCANVI": "scanvi",
    "TOTALVI": "totalvi",
    "MULTIVI": "multivi",
    "PEAKVI": "peakvi",
    "POISSONVI": "poissonvi",
}

ARCHITECTURES: Mapping[Kind, Callable[[Save], Architecture]] = {
    **dict.fromkeys(("scvi", "scanvi"), architecture_of),
    **dict.fromkeys(("peakvi", "poissonvi"), region_architecture_of),
    "totalvi": total_architecture_of,
    "multivi": multi_architecture_of,
}
STACKS: Mapping[str, str] = {
    "z_encoder.layers": "z_encoder.encoder",
    "library_encoder.layers": "l_encoder.encoder",
    "decoder.layers": "decoder.px_decoder",
}
HEADS: Mapping[str, str] = {
    "z_encoder.mean": "z_encoder.mean_encoder",
    "z_encoder.log_variance": "z_encoder.var_encoder",
    "library_encoder.mean": "l_encoder.mean_encoder",
    "library_encoder.log_variance": "l_encoder.var_encoder",
    "decoder.scale": "decoder.px_scale_decoder.0",
    "decoder.pi": "decoder.px_dropout_decoder",
    "decoder.log_theta": "decoder.px_r_decoder",
}
LABEL_STACKS: Mapping[str, str] = {
    "classifier.layers": "classifier.classifier.0",
    "encoder_z2_z1.layers": "encoder_z2_z1.encoder",
    "decoder_z1_z2.layers": "decoder_z1_z2.decoder",
}
LABEL_HEADS: Mapping[str, str] = {
    "classifier.output": "classifier.classifier.1",
    "encoder_z2_z1.mean": "encoder_z2_z1.mean_encoder",
    "encoder_z2_z1.log_variance": "encoder_z2_z1.var_encoder",
    "decoder_z1_z2.mean": "decoder_z1_z2.mean_decoder",
    "decoder_z1_z2.log_variance": "decoder_z1_z2.var_decoder",
}
TABLES: Mapping[Kind, tuple[Mapping[str, str], Mapping[str, str]]] = {
    "scvi": (STACKS, HEADS),
    "scanvi": ({**STACKS, **LABEL_STACKS}, {**HEADS, **LABEL_HEADS}),
    "totalvi": (totalvi_names.STACKS, totalvi_names.HEADS),
    "multivi": (multivi_names.STACKS, multivi_names.HEADS),
    "peakvi": (region_names.STACKS, region_names.HEADS),
    "poissonvi": (STACKS, HEADS),
}
"""Ours to theirs, for each kind: stacks of conditional layers, and plain linear layers."""
LIBRARY_PRIOR = ("library_log_means", "library_log_vars")
LINEAR_CLASSIFIER = "classifier.classifier.0"
TYPICAL_DEPTH = 3000.0
"""Counts of a cell's genes where nobody tells; it weighs genes and proteins against each other in
what is expected of a cell, and enters nothing else."""

UNUSED = re.compile(
    r"^(l_encoder|decoder\.px_r_decoder|decoder\.px_dropout_decoder)\."
    r"|^(encoder\.l_gene_\w+|decoder\.px_dropout_decoder_gene)\."
    r"|\.num_batches_tracked$|^pyro_param_store"
)
"""Weights that scvi-tools always saves, and that only some likelihoods and libraries look at."""


@dataclass(frozen=True)
class ConvertedModel:
    """A network in eval mode, and the save as its weights bear it out."""

    kind: Kind
    architecture: Architecture
    save: Save
    network: CVAE


def convert(save: Save, state: State) -> ConvertedModel:
    """Build the network of a save and give it the save's weights.

    Args:
        save: the description; what only the weights tell is settled here.
        state: scvi-tools' state dict, as float32.

    Raises:
        UnsupportedSave: an option that no network here has.
        InconsistentSave: a tensor is missing, too many, or not of the shape that the description
            asks for.
    """
    kind = KINDS[save.model]
    architecture = as_its_version_had_it(kind, ARCHITECTURES[kind](save), save, state)
    save = _settled(save, state, architecture)
    network = NETWORKS[kind](
        architecture,
        n_categories=[len(c.categories) for c in (save.batch, *save.extra_covariates)],
        n_continuous=len(save.continuous_covariates),
        n_labels=len(save.labels.categories) if save.labels else 1,
    )
    state = _with_joint_prior(state, architecture)
    pieces = list(_pieces(network, kind))
    if isinstance(network, MULTIVI):
        pieces = without_proteins(network, pieces, state)
    found = network.state_dict()
    _refuse_strangers(state, {piece.theirs for piece in pieces}, save)
    for piece in pieces:
        if (values := _due(piece, state, save)) is not None:
            found[piece.ours] = values.contiguous()
    network.load_state_dict(found)
    if isinstance(network, TOTALVI) and not network.library_is_latent:
        # No save tells how deep its cells are, if their library was observed.
        network.library_prior[:, 0] = math.log(TYPICAL_DEPTH)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return ConvertedModel(kind, architecture, save, network.eval())


def _due(piece: Piece, state: State, save: Save) -> Tensor | None:
    if piece.theirs not in state:
        if piece.optional:
            return None
        raise InconsistentSave(f"its weights lack `{piece.theirs}`")
    values = state[piece.theirs]
    if tuple(values.shape) != piece.shape:
        raise InconsistentSave(
            f"`{piece.theirs}` has the shape {tuple(values.shape)}, but {_sizes(save)} ask for "
            f"{piece.shape}"
        )
    if values.is_floating_point() and not bool(torch.isfinite(values).all()):
        raise InconsistentSave(f"`{piece.theirs}` holds numbers that are not finite")
    return piece.take(values)


def _sizes(save: Save) -> str:
    covariates = (save.batch, *save.extra_covariates)
    counts = " + ".join(str(len(covariate.categories)) for covariate in covariates)
    options = {name: save.options.get(name) for name in ("n_hidden", "n_latent", "n_layers")}
    told = ", ".join(f"{name} {value}" for name, value in options.items() if value is not None)
    return (
        f"{_features(save)}, {counts} categories and {len(save.continuous_covariates)} "
        f"continuous covariates{', ' if told else ''}{told}"
    )


def _features(save: Save) -> str:
    first = "regions" if save.model in {"PEAKVI", "POISSONVI"} else "genes"
    counts = ((first, save.genes), ("regions", save.regions), ("proteins", save.proteins))
    return " and ".join(f"{len(names):,} {noun}" for noun, names in counts if names)


def _refuse_strangers(state: State, known: set[str], save: Save) -> None:
    spared = [UNUSED, *([multivi_names.UNUSED] if save.model == "MULTIVI" else [])]
    others = (name for name in state if name not in known)
    strangers = sorted(n for n in others if not any(each.search(n) for each in spared))
    if strangers:
        raise InconsistentSave(
            f"it holds weights that a {save.model} model as described has not: "
            f"{', '.join(strangers[:3])}{' and more' if len(strangers) > 3 else ''}"
        )


def _pieces(network: CVAE, kind: Kind) -> Iterator[Piece]:
    stacks, heads = TABLES[kind]
    modules = dict(network.named_modules())
    for ours, theirs in stacks.items():
        stack = modules.get(ours)
        if isinstance(stack, FullyConnected):
            yield from of_stack(ours, theirs, stack)
    for ours, theirs in heads.items():
        head = modules.get(ours)
        if isinstance(head, nn.Linear):
            yield from of_head(ours, head_name(theirs, network), head)
    yield from total_pieces(network) if isinstance(network, TOTALVI) else _dispersion(network)
    yield from multi_pieces(network) if isinstance(network, MULTIVI) else ()
    yield from _priors(network)


def head_name(theirs: str, network: CVAE) -> str:
    """Where a linear layer is: without hidden layers, a classifier's output is its first."""
    alone = theirs == LABEL_HEADS["classifier.output"] and network.architecture.linear_classifier
    return LINEAR_CLASSIFIER if alone else theirs


def _dispersion(network: CVAE) -> Iterator[Piece]:
    if isinstance(network, SCVI):
        of_all = network.architecture.dispersion == "gene"
        yield from of_table("dispersion", "px_r", network.dispersion, of_all=of_all)
    if isinstance(network, PEAKVI) and network.region_factors is not None:
        shape = tuple(network.region_factors.shape)
        yield Piece(region_names.FACTORS, region_names.FACTORS, shape, same)


def _with_joint_prior(state: State, a: Architecture) -> State:
    """The prior of a latent library as one table; before 0.9 it was not saved at all.

    A model with size factors may have one, and nothing that it decodes depends on it.
    """
    means, variances = (state.get(name) for name in LIBRARY_PRIOR)
    others = {name: values for name, values in state.items() if name not in LIBRARY_PRIOR}
    if a.library == "size_factor":
        return others
    if means is None or variances is None or means.shape != variances.shape:
        return state
    return {**others, "library_prior": torch.cat([means, variances]).T}


def _priors(network: CVAE) -> Iterator[Piece]:
    if network.library_is_latent:
        shape = (network.n_categories[0], 2)
        # New batches bring their own prior, so a mapping misses nothing where there is none.
        yield Piece("library_prior", "library_prior", shape, same, optional=True)
    if "y_prior" in network.state_dict():
        n_labels = network.state_dict()["y_prior"].shape[0]
        yield Piece("y_prior", "y_prior", (1, n_labels), lambda prior: prior[0])


def _settled(save: Save, state: State, a: Architecture) -> Save:
    """The description, put right where the weights know better."""
    save = _with_covariates_in_use(save, state, a)
    if save.model == "SCANVI":
        return _with_labels_in_use(save, state, a)
    return save


def _with_covariates_in_use(save: Save, state: State, a: Architecture) -> Save:
    """Before 0.9 extra covariates could be registered, and no model looked at them."""
    first = state.get("decoder.px_decoder.fc_layers.Layer 0.0.weight")
    if not save.is_legacy or first is None:
        return save
    n_batches = len(save.batch.categories)
    without = a.n_latent + (n_batches if n_batches > 1 else 0)
    if first.shape[-1] != without:
        return save
    return replace(save, extra_covariates=(), continuous_covariates=())


def _with_labels_in_use(save: Save, state: State, a: Architecture) -> Save:
    """A SCANVI that met no unlabelled cell has the unlabelled category for a class (K+1)."""
    output = LINEAR_CLASSIFIER if a.linear_classifier else LABEL_HEADS["classifier.output"]
    head = state.get(f"{output}.weight")
    if save.labels is None or head is None:
        raise InconsistentSave("it is a SCANVI model without labels or without a classifier")
    known, unlabeled = save.labels.categories, save.unlabeled_category
    if head.shape[0] == len(known) + 1 and unlabeled is not None:
        level = LabelLevel(key=save.labels.key, categories=(*known, unlabeled))
        return replace(save, labels=level, unlabeled_category=None)
    return save
