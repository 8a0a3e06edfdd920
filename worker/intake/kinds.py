"""Is this HDF5 file an h5ad, or one of its relatives that people upload by mistake?"""

from __future__ import annotations

from app.problems import Problem, UnreadableFile, UnsupportedFile
from worker.intake.findings import located
from worker.intake.source import Source


def check_kind(source: Source) -> None:
    """Refuse other formats with the line of Python that turns them into an h5ad."""
    if source.has("/obs") and source.has("/var") and not source.has("/mod"):
        return
    raise _what_it_is(source)


def _what_it_is(source: Source) -> Problem:
    if source.has("/mod"):
        return located(
            UnsupportedFile,
            "/mod",
            "This is a MuData file with several modalities.",
            'Upload the one that holds gene counts: mdata["rna"].write_h5ad("query.h5ad").',
        )
    if source.has("/matrix/barcodes"):
        return located(
            UnsupportedFile,
            "/matrix",
            "This is a 10x Genomics matrix (.h5), not an h5ad.",
            'Convert it: scanpy.read_10x_h5("matrix.h5").write_h5ad("query.h5ad").',
        )
    if source.has("/row_attrs") and source.has("/col_attrs"):
        return located(
            UnsupportedFile,
            "/",
            "This is a loom file, not an h5ad.",
            'Convert it: anndata.io.read_loom("query.loom").write_h5ad("query.h5ad").',
        )
    missing = " and ".join(path for path in ("/obs", "/var") if not source.has(path))
    return located(UnreadableFile, "/", f"The file has no {missing}, so it is no h5ad.")
