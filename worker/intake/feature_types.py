"""What each row of var is, where a file says so: a gene, an antibody, a peak."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from models_store.feature_kinds import kind_of_word, kinds_of
from worker.intake.findings import Findings
from worker.intake.tables import Table

COLUMNS = ("feature_types", "feature_type")
MODALITY = "modality"
"""A column of that name counts where it names what is no gene: other files call other things so."""
GENE_EXPRESSION = "Gene Expression"
MOST_TYPES = 20
"""A column of types says few different things; one that any of them is a gene."""


def feature_types(var: Table) -> list[str] | None:
    """The type of every row, by the usual name of such a column or by what Cell Ranger writes."""
    found = {column.name: text for column in var.columns if (text := as_text(column.values))}
    for name in COLUMNS:
        if name in found:
            return pc.fill_null(found[name], "").to_pylist()  # type: ignore[no-any-return]
    if (told := _modalities(found.get(MODALITY))) is not None:
        return told
    for text in found.values():
        kinds = pc.unique(text).to_pylist() if pc.count_distinct(text).as_py() <= MOST_TYPES else ()
        if GENE_EXPRESSION in kinds:
            return pc.fill_null(text, "").to_pylist()  # type: ignore[no-any-return]
    return None


def _modalities(text: pa.Array | None) -> list[str] | None:
    if text is None:
        return None
    kinds = {kind_of_word(word) for word in pc.unique(text).to_pylist() if word}
    return pc.fill_null(text, "").to_pylist() if kinds & {"region", "protein"} else None


def tell_other_features(path: str, types: list[str] | None, findings: Findings) -> None:
    kinds = kinds_of(types or ())
    others = Counter(name for name, kind in zip(types or (), kinds, strict=True) if kind != "gene")
    strange = sorted({name for name, kind in zip(types or (), kinds, strict=True) if kind is None})
    if not others:
        return
    what_they_are = (
        f" What {', '.join(map(repr, strange[:10]))} is, is not known here: that is matched with "
        "nothing."
    )
    listed = ", ".join(f"{number:,} {kind!r}" for kind, number in others.most_common(10))
    findings.tell(
        "other-features",
        path,
        f"{others.total():,} features are no genes: {listed}. They are kept and never matched with "
        "genes of a reference; peaks and antibodies are with its regions and proteins."
        f"{what_they_are if strange else ''}",
        "Nothing needs doing, unless that is peaks or antibodies: then call it `Peaks` or "
        "`Antibody Capture` in var, and upload the file again."
        if strange
        else "Nothing needs doing.",
    )


def as_text(values: pa.Array) -> pa.Array | None:
    """A column as text, categories written out; None where it holds something else."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    return values if pa.types.is_string(values.type) else None
