"""What a save of scvi-tools says of itself, whatever version wrote it, in Cellgraft's words.

From 0.15 a save describes its data in `registry_`; before, in `scvi_setup_dict_`, without the
name of the model's class. Both come here as plain JSON: nothing in this package unpickles.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from models_store.manifest import Covariate, LabelLevel
from models_store.scvi_features import ModalityOfSave, features_of, modalities_of
from models_store.scvi_features import name_of as name_of
from models_store.scvi_refusals import InconsistentSave as InconsistentSave
from models_store.scvi_refusals import UnsupportedSave as UnsupportedSave

SUPPORTED = ("SCVI", "SCANVI", "TOTALVI", "PEAKVI", "POISSONVI", "MULTIVI")
OWN_COLUMN = re.compile(r"^_scvi_\w+$")
"""What scvi-tools calls a column that it made itself, where the caller had named none."""


@dataclass(frozen=True)
class Save:
    """A saved model without its weights."""

    model: str
    """The class in scvi-tools: one of `SUPPORTED`."""
    version: tuple[int, ...]
    """Of scvi-tools, as numbers; (0,) for what legacy saves call 0.0.0."""
    version_name: str
    options: Mapping[str, Any]
    """What the model was made with, under scvi-tools' names."""
    genes: tuple[str, ...]
    batch: Covariate
    labels: LabelLevel | None
    """In the order of the network's outputs; without the unlabelled category."""
    unlabeled_category: str | None
    extra_covariates: tuple[Covariate, ...]
    continuous_covariates: tuple[str, ...]
    size_factor_key: str | None
    layer: str | None
    """Where the counts were, in the file that the model was trained on."""
    n_cells: int | None
    is_trained: bool
    is_legacy: bool
    regions: tuple[str, ...] = ()
    proteins: tuple[str, ...] = ()
    n_panels: int = 0
    """Panels of proteins that have a background each; 0: each batch has one."""
    proteins_key: str | None = None
    """The table of obsm that held the proteins, in the file that the model was trained on."""
    protein_names_key: str | None = None
    """Where in uns their names were, if the table had none."""
    latent_key: str | None = None
    """Of a minified model: the array of obsm that holds its latents."""
    modalities: tuple[ModalityOfSave, ...] = ()
    """Of the MuData that the model was trained on; none where that was one table."""
    depth_key: str | None = None
    """MULTIVI: the obs column of depths in regions, set up as its second size factor."""

    @property
    def features(self) -> tuple[str, ...]:
        """The columns of the counts that the network sees."""
        return self.genes + self.regions + self.proteins


def read_description(
    genes: Sequence[Any] | Mapping[str, Sequence[Any]],
    attributes: Mapping[str, Any],
    tensor_names: Iterable[str],
) -> Save:
    """Understand the attributes of a save.

    Args:
        genes: its var_names, of each modality where it was trained on several.
        attributes: its attributes as JSON, those that describe it.
        tensor_names: of its weights; they tell the class where no attribute does.

    Raises:
        UnsupportedSave: the class is none of `SUPPORTED`.
        InconsistentSave: something is missing or contradicts something else.
    """
    try:
        fields, head = _described(attributes, tensor_names)
        return _save(genes, attributes, fields, head)
    except ValidationError as error:
        raise InconsistentSave(str(error.errors()[0]["msg"])) from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InconsistentSave(f"its description is incomplete ({error!r})") from error


def _described(
    attributes: Mapping[str, Any], tensor_names: Iterable[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """State of each field, and what stands above the fields."""
    if "registry_" in attributes:
        fields, head = _registry(attributes["registry_"])
    elif "scvi_setup_dict_" in attributes:
        fields, head = _setup_dict(attributes["scvi_setup_dict_"])
        head["model"] = _class_of(set(tensor_names))
    else:
        raise InconsistentSave("it says nothing of the data that it was trained on")
    if head["model"] not in SUPPORTED:
        raise UnsupportedSave(
            f"it is a {head['model']} model, and {', '.join(SUPPORTED)} are supported"
        )
    return fields, head


def _save(
    var_names: Sequence[Any] | Mapping[str, Sequence[Any]],
    attributes: Mapping[str, Any],
    fields: Mapping[str, Any],
    head: Mapping[str, Any],
) -> Save:
    setup, options = head["setup_args"], _options(attributes.get("init_params_") or {})
    modalities = setup.get("modalities") or {}
    found = features_of(head["model"], var_names, fields, modalities, options)
    counted = fields.get("X") or fields.get("atac") or {}
    labels, unlabeled = _labels(head["model"], fields, setup, attributes)
    version, size_factors = str(head["version"]), _size_factors(head["model"], setup)
    extra = fields.get("extra_categorical_covs") or {}
    continuous = fields.get("extra_continuous_covs") or {}
    return Save(
        model=head["model"],
        version=tuple(int(part) for part in re.findall(r"\d+", version)[:3]),
        version_name=version,
        options=options,
        genes=found.genes,
        batch=_covariate(fields["batch"], _key(setup, "batch_key", fields["batch"])),
        labels=labels,
        unlabeled_category=unlabeled,
        extra_covariates=tuple(
            Covariate(key=str(key), categories=tuple(map(name_of, extra["mappings"][key])))
            for key in extra.get("field_keys", ())
        ),
        continuous_covariates=tuple(map(str, continuous.get("columns", ()))),
        size_factor_key=size_factors[0],
        layer=_layer(setup.get("layer")),
        n_cells=counted.get("n_cells") or counted.get("n_obs"),
        is_trained=attributes.get("is_trained_") is not False,
        is_legacy="registry_" not in attributes,
        regions=found.regions,
        proteins=found.proteins,
        proteins_key=setup.get("protein_expression_obsm_key"),
        protein_names_key=setup.get("protein_names_uns_key"),
        latent_key=head.get("latent_key"),
        modalities=modalities_of(setup),
        n_panels=len((fields.get("panel") or {}).get("categorical_mapping") or ()),
        depth_key=size_factors[1],
    )


def _size_factors(model: str, setup: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The columns of the size factor and, of MULTIVI since it takes both, of the depth.

    Before, MULTIVI took one column, as the other classes do, and encoded the depth.
    """
    told = setup.get("size_factor_key")
    if told is None or isinstance(told, str):
        return told, None
    if model != "MULTIVI" or len(told) != 2:
        raise InconsistentSave(
            f"it names the size factors {list(told)!r}, and a {model} has "
            + ("two" if model == "MULTIVI" else "one")
        )
    return str(told[0]), str(told[1])


def _registry(registry: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of a save since 0.15."""
    fields = {
        name: {**(field.get("summary_stats") or {}), **(field.get("state_registry") or {})}
        for name, field in registry["field_registries"].items()
    }
    latents = (registry["field_registries"].get("latent_qzm") or {}).get("data_registry") or {}
    return fields, {
        "model": str(registry["model_name"]),
        "version": registry["scvi_version"],
        "setup_args": registry.get("setup_args") or {},
        "latent_key": latents.get("attr_key"),
    }


def _setup_dict(setup: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same out of the dictionary of before 0.15."""
    mappings, statistics = setup["categorical_mappings"], setup["summary_stats"]
    fields: dict[str, Any] = {
        "X": {"n_vars": statistics["n_vars"], "n_cells": statistics.get("n_cells")}
    }
    for name, column in (("batch", "_scvi_batch"), ("labels", "_scvi_labels")):
        if column in mappings:
            fields[name] = {
                "categorical_mapping": mappings[column]["mapping"],
                "original_key": mappings[column]["original_key"],
                f"n_{name}": statistics.get("n_batch" if name == "batch" else "n_labels"),
            }
    if (proteins := setup.get("protein_names")) is not None:
        fields["proteins"] = {"column_names": proteins}
    if extra := setup.get("extra_categoricals"):
        fields["extra_categorical_covs"] = {
            "mappings": extra["mappings"],
            "field_keys": extra["keys"],
        }
    if (columns := setup.get("extra_continuous_keys")) is not None:
        fields["extra_continuous_covs"] = {"columns": columns}
    where = setup["data_registry"].get("X") or {}
    layer = where.get("attr_key") if where.get("attr_name") == "layers" else None
    held = setup["data_registry"].get("protein_expression") or {}
    arguments = {"layer": layer, "protein_expression_obsm_key": held.get("attr_key")}
    return fields, {"version": setup["scvi_version"], "setup_args": arguments}


MARKS = {
    "z_encoder_accessibility.": "MULTIVI",
    "background_pro_alpha": "TOTALVI",
    "region_factors": "PEAKVI",
    "z_decoder.px_decoder.": "PEAKVI",
    "alpha_posterior_logit_a": "AUTOZI",
    "decoder.factor_regressor": "LinearSCVI",
    "classifier.": "SCANVI",
}
"""Beginnings of names of weights that only one class has."""


def _class_of(names: set[str]) -> str:
    for mark, model in MARKS.items():
        if any(name.startswith(mark) for name in names):
            return model
    known = {"px_r", "decoder.px_scale_decoder.0.weight"} & names
    return "SCVI" if known else "unknown"


def _options(made_with: Mapping[str, Any]) -> dict[str, Any]:
    """The model's options on one level: plain ones, and those that were passed through."""
    found: dict[str, Any] = {}
    groups = [made_with.get("non_kwargs", made_with), made_with.get("kwargs") or {}]
    for group in groups:
        for name, value in group.items():
            if isinstance(value, Mapping) and name.endswith("kwargs") and "extra" not in name:
                found |= value
            else:
                found[name] = value
    return found


def _key(setup: Mapping[str, Any], argument: str, field: Mapping[str, Any]) -> str | None:
    """The obs column that a field came from; None for one that scvi-tools made up."""
    key = setup[argument] if argument in setup else field.get("original_key")
    return None if key is None or OWN_COLUMN.match(str(key)) else str(key)


def _covariate(field: Mapping[str, Any], key: str | None) -> Covariate:
    categories = tuple(map(name_of, field["categorical_mapping"]))
    if field.get("n_batch") not in (None, len(categories)):
        raise InconsistentSave(
            f"it lists {len(categories)} batches and says that there are {field['n_batch']}"
        )
    return Covariate(key=key, categories=categories)


def _labels(
    model: str,
    fields: Mapping[str, Any],
    setup: Mapping[str, Any],
    attributes: Mapping[str, Any],
) -> tuple[LabelLevel | None, str | None]:
    """The label level, and SCANVI's value for no label, which stands last among the categories."""
    field = fields.get("labels") or {}
    key = _key(setup, "labels_key", field)
    if key is None or "categorical_mapping" not in field:
        return None, None
    names = list(map(name_of, field["categorical_mapping"]))
    if len(set(names)) != len(names):
        raise InconsistentSave("it lists a label twice")
    if model != "SCANVI":
        return LabelLevel(key=key, categories=tuple(names)), None
    told = (
        field.get("unlabeled_category"),
        setup.get("unlabeled_category"),
        attributes.get("unlabeled_category_"),
        _options(attributes.get("init_params_") or {}).get("unlabeled_category"),
    )
    unlabeled = next((name_of(value) for value in told if value is not None), None)
    if unlabeled in names:
        at = names.index(unlabeled)
        names[at], names[-1] = names[-1], names[at]  # as SCANVI itself puts it last
        names.pop()
    return LabelLevel(key=key, categories=tuple(names)), unlabeled


def _layer(name: Any) -> str | None:
    return None if name in (None, "None", "X") else f"layers/{name}"
