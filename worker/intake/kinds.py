"""Which format an HDF5 file has, or which relative of one was uploaded by mistake."""

from __future__ import annotations

from app.problems import Problem
from worker.intake.findings import located
from worker.intake.h5ad import H5ad
from worker.intake.query_file import QueryFile
from worker.intake.source import Source


def recognise(source: Source) -> QueryFile:
    """The reader of this file's format.

    Raises:
        Problem: another format, with the line of Python that turns it into an h5ad.
    """
    if source.has("/mod") or not (source.has("/obs") or source.has("/var")):
        raise _what_it_is(source)
    return H5ad(source)


def _what_it_is(source: Source) -> Problem:
    if source.has("/mod"):
        return located(
            "other-format",
            "/mod",
            "This is a MuData file with several modalities.",
            'Upload the one that holds gene counts: mdata["rna"].write_h5ad("query.h5ad").',
        )
    if source.has("/matrix/barcodes"):
        return located(
            "other-format",
            "/matrix",
            "This is a 10x Genomics matrix (.h5), not an h5ad.",
            'Convert it: scanpy.read_10x_h5("matrix.h5").write_h5ad("query.h5ad").',
        )
    if source.has("/row_attrs") and source.has("/col_attrs"):
        return located(
            "other-format",
            "/",
            "This is a loom file, not an h5ad.",
            'Convert it: anndata.io.read_loom("query.loom").write_h5ad("query.h5ad").',
        )
    return located("table-missing", "/", "The file has no /obs and /var, so it is no h5ad.")
