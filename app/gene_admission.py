"""Whether a query has enough of a reference's genes, and of the same species, to be mapped."""

from __future__ import annotations

from typing import Any

from app.coverage import Coverage
from app.problems import Problem, SpeciesMismatch, TooFewGenes
from models_store.manifest import Manifest

_FIX_GENES = (
    "Upload the whole gene table, with the genes named as the reference names them (see its "
    "/genes) in the var index or in a column of var"
)
_FIX_REGIONS = (
    "Count the query's fragments in the reference's own regions (its /genes lists them), on the "
    "same build of the genome, and upload these counts: peaks that were called anew hardly ever "
    "have the same borders"
)
FORCE = "`force` maps all the same, and the verdict is then `fail`"


def check_genes(coverage: Coverage, manifest: Manifest, *, force: bool) -> None:
    """Refuse what gene coverage refuses, unless the caller forces it and any gene is shared.

    Raises:
        SpeciesMismatch: the genes are of another species than the reference's.
        TooFewGenes: the query lacks too many of them.
    """
    if coverage.advice != "refused" or (force and coverage.n_matched):
        return
    raise _species(coverage, manifest) if coverage.species_differ else _few(coverage, manifest)


def forced_verdict(coverage: Coverage) -> dict[str, Any] | None:
    """The verdict on a mapping that gene coverage would have refused; None for any other."""
    if coverage.advice != "refused":
        return None
    reasons = []
    if coverage.species_differ:
        reasons.append({"code": "species-mismatch", "detail": _two_species(coverage)})
    if coverage.judged < coverage.refuse_below:
        reasons.append(
            {
                "code": "low-gene-coverage",
                "detail": f"The query has {coverage.sentence}; the reference "
                f"demands {coverage.refuse_below:.0%} of both.",
            }
        )
    return {"result": "fail", "reasons": reasons}


def _few(coverage: Coverage, manifest: Manifest) -> Problem:
    found = f"The query has {coverage.sentence} of {manifest.name}"
    needed = f"; at least {coverage.refuse_below:.0%} of both are needed"
    missing = f" Most informative of the missing {coverage.kind}s: {coverage.missing_names}."
    fix = _FIX_REGIONS if coverage.kind == "region" else _FIX_GENES
    return TooFewGenes(
        f"{found}{needed if coverage.n_matched else ''}. {_names(coverage)}{missing}",
        fix=f"{fix}; {FORCE}." if coverage.n_matched else f"{fix}.",
        errors=[{"pointer": "/var", "detail": f"{coverage.n_matched} {coverage.kind}s matched"}],
        **_figures(coverage),
    )


def _species(coverage: Coverage, manifest: Manifest) -> Problem:
    return SpeciesMismatch(
        f"{_two_species(coverage)} {_names(coverage)} It has {coverage.sentence} of "
        f"{manifest.name}.",
        fix="Choose a reference of the query's species. To compare across species, name the genes "
        f"by their orthologues in the reference's species and upload the file again; {FORCE}.",
        errors=[{"pointer": "/var", "detail": _two_species(coverage)}],
        query_species=list(coverage.query_species),
        reference_species=list(coverage.reference_species),
        **_figures(coverage),
    )


def _two_species(coverage: Coverage) -> str:
    query, reference = (
        " and ".join(coverage.query_species),
        " and ".join(coverage.reference_species),
    )
    return f"The genes of the query look like {query}, those of the reference like {reference}."


def _names(coverage: Coverage) -> str:
    theirs = "gene" if coverage.kind == "gene" else "feature"
    return (
        f"The query's {theirs}s look like {', '.join(coverage.query_examples)}; the "
        f"reference's like {', '.join(coverage.reference_examples)}."
    )


def _figures(coverage: Coverage) -> dict[str, Any]:
    return {
        "n_matched": coverage.n_matched,
        "n_panel": coverage.n_panel,
        "share": coverage.share,
        "expected_expression_covered": coverage.expected_expression_covered,
        "refuse_below": coverage.refuse_below,
        "query_examples": list(coverage.query_examples),
        "reference_examples": list(coverage.reference_examples),
        "missing_genes": list(coverage.missing_genes),
    }
