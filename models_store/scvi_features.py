"""Which features a save of scvi-tools was trained on, from one table or from a MuData's modalities.

One table has genes and then regions for MULTIVI, regions for PEAKVI, genes for all others; proteins
stand aside. A MuData has each kind in a modality of its own, which the setup names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models_store.feature_kinds import KINDS, FeatureKind
from models_store.scvi_refusals import InconsistentSave, UnsupportedSave

LAYERS: Mapping[str, str] = {"rna_layer": "X", "atac_layer": "atac", "protein_layer": "proteins"}
"""What the setup of a MuData calls a modality, and the field that describes it."""
WITH_PROTEINS = frozenset({"TOTALVI", "MULTIVI"})
OF_MODALITIES = frozenset({"TOTALVI", "MULTIVI"})

Names = tuple[str, ...]


@dataclass(frozen=True)
class Features:
    """The names of the features of each kind, in the order of the network's."""

    genes: Names = ()
    regions: Names = ()
    proteins: Names = ()


@dataclass(frozen=True)
class ModalityOfSave:
    """A modality of the MuData that a model was trained on."""

    kind: FeatureKind
    name: str
    layer: str | None
    """Where its counts were; None: in X."""


def modalities_of(setup: Mapping[str, Any]) -> tuple[ModalityOfSave, ...]:
    """What the setup says of a MuData's modalities, in the order of the network's features."""
    named = setup.get("modalities") or {}
    return tuple(
        ModalityOfSave(kind, name_of(named[layer]), setup.get(layer))
        for kind, layer in zip(KINDS, LAYERS, strict=True)
        if named.get(layer) is not None
    )


def name_of(value: Any) -> str:
    """A category's value as its name: 1 and 1.0 are the same one, as in a query's obs."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def features_of(
    model: str,
    var_names: Sequence[Any] | Mapping[str, Sequence[Any]],
    fields: Mapping[str, Mapping[str, Any]],
    modalities: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Features:
    """The features of each kind.

    Args:
        model: the class in scvi-tools.
        var_names: the names that stand beside the weights, of each modality of a MuData.
        fields: what the registry says of each field.
        modalities: what the setup of a MuData calls each modality.
        options: what the model was made with.

    Raises:
        UnsupportedSave: a MuData for a class that is read from one table alone.
        InconsistentSave: two places list different features, or one is listed twice.
    """
    if isinstance(var_names, Mapping):
        found = _of_modalities(model, var_names, fields, modalities)
    else:
        names = tuple(map(name_of, var_names))
        together = any(modalities.get(layer) is not None for layer in LAYERS)
        whose = _of_joined if together else _of_one_table
        found = whose(model, names, fields, options)
    listed = {"gene": found.genes, "region": found.regions, "protein": found.proteins}
    for noun, names in listed.items():
        if len(set(names)) != len(names):
            raise InconsistentSave(f"it lists a {noun} twice, so weights could not be told apart")
    if model == "TOTALVI" and not found.proteins:
        raise InconsistentSave("it is a TOTALVI model without proteins")
    return found


def _of_modalities(
    model: str,
    var_names: Mapping[str, Sequence[Any]],
    fields: Mapping[str, Mapping[str, Any]],
    modalities: Mapping[str, Any],
) -> Features:
    if model not in OF_MODALITIES:
        raise UnsupportedSave("it was trained on several modalities (MuData)")
    found: dict[str, Names] = {}
    for layer, field in LAYERS.items():
        name = modalities.get(layer)
        if name is None:
            continue
        if name not in var_names:
            raise InconsistentSave(
                f"it was set up with modality {name!r}, and lists no names of it"
            )
        found[field] = tuple(map(name_of, var_names[name]))
        _agree(found[field], fields.get(field) or {})
    return Features(*(found.get(field, ()) for field in LAYERS.values()))


def _of_joined(
    model: str, names: Names, fields: Mapping[str, Mapping[str, Any]], options: Mapping[str, Any]
) -> Features:
    """Before 1.2 the names of all modalities of a MuData stood in one list; fields tell whose."""
    if model not in OF_MODALITIES:
        raise UnsupportedSave("it was trained on several modalities (MuData)")
    found = [_column_names(fields.get(field) or {}) or () for field in LAYERS.values()]
    if sorted(names) != sorted(name for each in found for name in each):
        raise InconsistentSave("its var_names and its registry list different genes")
    return Features(*found)


def _of_one_table(
    model: str, names: Names, fields: Mapping[str, Mapping[str, Any]], options: Mapping[str, Any]
) -> Features:
    _agree(names, fields.get("X") or {})
    proteins = _column_names(fields.get("proteins") or {}) if model in WITH_PROTEINS else None
    n_genes, n_regions = len(names), 0
    if model == "MULTIVI":
        n_genes, n_regions = (int(options.get(which) or 0) for which in ("n_genes", "n_regions"))
    if n_genes + n_regions != len(names):
        raise InconsistentSave(
            f"it was made for {n_genes:,} genes and {n_regions:,} regions, and lists {len(names):,}"
        )
    return Features(names[:n_genes], names[n_genes:], proteins or ())


def _agree(names: Names, field: Mapping[str, Any]) -> None:
    told = _column_names(field)
    if told is not None and told != names:
        raise InconsistentSave("its var_names and its registry list different genes")
    if (n_vars := field.get("n_vars")) not in (None, len(names)):
        raise InconsistentSave(f"it lists {len(names)} genes and says that there are {n_vars}")


def _column_names(field: Mapping[str, Any]) -> Names | None:
    names = field.get("column_names")
    return None if names is None else tuple(map(name_of, names))
