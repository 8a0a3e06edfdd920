"""What a finished mapping warns of, each with its code and what to do."""

from __future__ import annotations

from collections.abc import Sequence

from app.coverage import Coverage
from app.standing import NO_EFFECT
from models_store.manifest import Manifest
from worker.explained import Explained
from worker.obs import listed

Warned = dict[str, str]


def mapping_warnings(
    manifest: Manifest,
    coverage: Coverage,
    explained: Explained,
    *,
    of_design: Sequence[Warned],
    n_empty: int,
    empty_column: str,
) -> list[Warned]:
    """All of them.

    Args:
        manifest: of the reference.
        coverage: of its panel by the query.
        explained: how well it explains the cells.
        of_design: those of batches, labels and conditions.
        n_empty: cells without a count in the reference's features.
        empty_column: the column of obs that flags these.
    """
    found = [] if manifest.surgery_has_effect else [NO_EFFECT]
    found += of_design
    found += _few_genes(coverage)
    found += _proteins(coverage)
    found += _explained(manifest, explained)
    if n_empty:
        found.append(
            {
                "code": "empty-cells",
                "detail": f"{n_empty} cells have no counts in the reference's genes; obs column "
                f"`{empty_column}` flags them and their latents mean nothing.",
                "fix": "Leave them out of what you conclude.",
            }
        )
    return found


def _few_genes(coverage: Coverage) -> list[Warned]:
    if coverage.judged >= coverage.warn_below:
        return []
    kind = coverage.kind
    return [
        {
            "code": "few-genes",
            "detail": f"The query has {coverage.sentence} of the reference. Absent {kind}s count "
            f"as zero; the most informative of them: {coverage.missing_names}.",
            "fix": "Count fragments in the reference's own regions."
            if kind == "region"
            else f"Map an unfiltered {kind} table, or name {kind}s as the reference does.",
        }
    ]


def _proteins(coverage: Coverage) -> list[Warned]:
    """Of a query that has proteins: which of the reference's it lacks. Without any, it was meant to
    be mapped so."""
    for kind in coverage.kinds:
        missing, unknown = kind["missing"], kind["unknown"]
        if kind["n_matched"] == kind["n_panel"] or not (kind["n_matched"] or unknown):
            continue
        also = f" Proteins of the query that meet none of it: {listed(unknown, most=5)}."
        return [
            {
                "code": "missing-proteins",
                "detail": f"The query has {kind['n_matched']} of the {kind['n_panel']} proteins of "
                f"the reference. The others count as not measured: {listed(missing, most=5)}."
                f"{also if unknown else ''}",
                "fix": "If they were measured, name them as the reference does (see its /genes) "
                "and upload the file again; if not, nothing needs doing.",
            }
        ]
    return []


def _explained(manifest: Manifest, found: Explained) -> list[Warned]:
    share = found.explained
    if share is None or share >= manifest.thresholds.poorly_explained_below:
        return []
    genes = ", ".join(gene["gene"] for gene in found.unexplained_genes)
    return [
        {
            "code": "poorly-explained",
            "detail": f"The reference explains these cells poorly: to it, a count of theirs is on "
            f"average {share:.2f} times as likely as one of its own cells. What speaks most "
            f"against it: {genes}.",
            "fix": "Check that the tissue, the organism and the kind of assay are the reference's; "
            "POST /v1/queries/{id}/ranking compares the query with every reference.",
        }
    ]
