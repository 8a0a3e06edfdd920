"""Which format an HDF5 file has, or which relative of one was uploaded by mistake."""

from __future__ import annotations

from app.problems import Problem
from worker.intake.cell_ranger import CellRangerV3, genomes_of, is_v3, open_v2
from worker.intake.choice import Choice
from worker.intake.findings import located
from worker.intake.h5ad import H5ad
from worker.intake.h5mu import open_modality
from worker.intake.query_file import QueryFile
from worker.intake.source import Source


def recognise(source: Source, choice: Choice) -> QueryFile:
    """The reader of this file's format.

    Raises:
        Problem: another format, with the line of Python that turns it into an h5ad; or a file of
            several matrices, where nobody said which.
    """
    if source.has("/mod"):
        return open_modality(source, choice)
    if source.has("/obs") or source.has("/var"):
        return H5ad(source, "", choice)
    if is_v3(source):
        return CellRangerV3(source, choice.genome)
    if genomes_of(source):
        return open_v2(source, choice.genome)
    raise _what_it_is(source)


def require_tables(source: Source) -> None:
    """Raises Problem for every format but h5ad and h5mu."""
    if not (source.has("/mod") or source.has("/obs") or source.has("/var")):
        raise _what_it_is(source)


def _what_it_is(source: Source) -> Problem:
    if is_v3(source) or genomes_of(source):
        return located(
            "other-format",
            "/",
            "This is a matrix of 10x Genomics (.h5), not an h5ad.",
            'Convert it: scanpy.read_10x_h5("matrix.h5").write_h5ad("query.h5ad").',
        )
    if source.has("/barcode_info") and source.has("/barcode_idx"):
        return located(
            "other-format",
            "/",
            "This is the molecule information of Cell Ranger, not a matrix of counts.",
            "Upload filtered_feature_bc_matrix.h5, from the same folder.",
        )
    if source.has("/row_attrs") and source.has("/col_attrs"):
        return located(
            "other-format",
            "/",
            "This is a loom file, not an h5ad.",
            'Convert it: anndata.io.read_loom("query.loom").write_h5ad("query.h5ad").',
        )
    return located(
        "table-missing",
        "/",
        "The file has no /obs and /var, so it is no h5ad, and nothing else that is known here.",
    )
