"""The .h5 matrices of 10x Genomics: genes by cells in CSC, which is cells by genes in CSR."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.problems import Problem
from worker.intake.columns import Column, read_names
from worker.intake.counts import raw_blocks
from worker.intake.feature_tables import GENE_EXPRESSION, feature_table
from worker.intake.findings import Findings, located, reading
from worker.intake.matrices import Matrix
from worker.intake.one_matrix import ONLY_MATRIX, OneMatrix, only_matrix
from worker.intake.rows import RowBlock, select
from worker.intake.source import Source
from worker.intake.sparse import examine_compressed, first_values
from worker.intake.tables import Table
from worker.intake.values import Array, Survey

V3_ROOT = "/matrix"
KNOWN_FEATURES = frozenset({"id", "name", "feature_type", "genome"})


def genomes_of(source: Source) -> list[str]:
    """The top-level groups of a file of Cell Ranger 1 and 2, one for each genome."""
    return [
        name
        for name in source.keys("/")
        if any(source.has(f"/{name}/{part}") for part in ("barcodes", "genes"))
        and any(source.has(f"/{name}/{part}") for part in ("data", "indices", "indptr"))
    ]


def is_v3(source: Source) -> bool:
    named = source.has(f"{V3_ROOT}/barcodes") or source.has(f"{V3_ROOT}/features")
    return named and not source.has(f"{V3_ROOT}/genes")


def open_v2(source: Source, genome: str | None) -> CellRangerV2:
    """The matrix of the genome that was asked for, or of the only one.

    Raises:
        Problem: there is no such genome, or several and none was asked for.
    """
    genomes = genomes_of(source)
    if genome is None and len(genomes) == 1:
        genome = genomes[0]
    if genome is None:
        raise located(
            "several-genomes",
            "/",
            f"The file holds a matrix for each of {len(genomes)} genomes: {_listed(genomes)}.",
            f"Send it again with genome={genomes[0]}, or another of them.",
        )
    if genome not in genomes:
        raise _unknown_genome("/", genome, genomes)
    return CellRangerV2(source, genome)


class _CellRanger(OneMatrix):
    """See `QueryFile`; what the two layouts have in common."""

    format: str

    def __init__(self, source: Source, root: str) -> None:
        self.source, self.root = source, root

    def peek(self, matrix: Matrix, number: int) -> Array:
        return first_values(self.source, matrix, number)

    def locate(self, layer: str | None) -> Matrix:
        only_matrix(layer, self.root)
        n_genes, n_cells = self._stored_shape()
        return Matrix(ONLY_MATRIX, self.root, f"{self.root}/features", "csr", (n_cells, n_genes))

    def _stored_shape(self) -> tuple[int, int]:
        pointer = f"{self.root}/shape"
        dataset = self.source.vector(pointer)
        with reading(pointer):
            sizes = np.asarray(dataset[...])
        if sizes.shape != (2,) or sizes.dtype.kind not in "iu" or int(sizes.min()) < 0:
            raise located("matrix-shape", pointer, f"{pointer} is no pair of sizes.")
        return int(sizes[0]), int(sizes[1])

    def cells(self, findings: Findings) -> Table:
        return Table("/obs", self._names("barcodes"), None)

    def blocks(self, matrix: Matrix, survey: Survey) -> Iterator[RowBlock]:
        return raw_blocks(self.source, matrix, survey)

    def examine(self, matrix: Matrix, survey: Survey, findings: Findings) -> None:
        examine_compressed(self.source, matrix, survey, findings)

    def dropped(self, matrix: Matrix) -> dict[str, list[str]]:
        return {}

    def _names(self, name: str) -> pa.Array:
        pointer = f"{self.root}/{name}"
        names = read_names(self.source, pointer)
        if not pa.types.is_string(names.type):
            raise located("names-not-text", pointer, f"{pointer} holds {names.type}, not names.")
        return names

    def _optional(self, name: str, length: int, findings: Findings) -> pa.Array | None:
        """A column of the features that some versions do not write."""
        pointer = f"{self.root}/{name}"
        if not self.source.has(pointer):
            return None
        try:
            self.source.vector(pointer, length)
            return self._names(name)
        except Problem as problem:
            findings.tell(
                "column-left-out",
                pointer,
                f"{pointer} is left out: {problem.detail}",
                "Nothing needs doing unless you need this column.",
            )
            return None


class CellRangerV2(_CellRanger):
    """A genome of a file of Cell Ranger 1 and 2."""

    format = "10x-h5-v2"

    def __init__(self, source: Source, genome: str) -> None:
        super().__init__(source, f"/{genome}")
        self.genome = genome

    def facts(self) -> dict[str, Any]:
        return {"genome": self.genome}

    def genes(self, matrix: Matrix | None, findings: Findings) -> Table:
        ids = self._names("genes")
        names = self._optional("gene_names", len(ids), findings)
        return feature_table(
            f"{self.root}/genes",
            ids,
            names=names,
            types=pa.array([GENE_EXPRESSION] * len(ids), pa.string()),
            genomes=pa.array([self.genome] * len(ids), pa.string()),
        )

    def dropped(self, matrix: Matrix) -> dict[str, list[str]]:
        others = [name for name in genomes_of(self.source) if name != self.genome]
        return {"matrices": others} if others else {}


class CellRangerV3(_CellRanger):
    """A file of Cell Ranger 3 and later: features of several types, of one genome where asked."""

    format = "10x-h5-v3"

    def __init__(self, source: Source, genome: str | None) -> None:
        super().__init__(source, V3_ROOT)
        self.genome = genome
        self._kept: Array | None = None
        if genome is not None:
            self._kept = self._of_genome(genome)

    def facts(self) -> dict[str, Any]:
        return {} if self.genome is None else {"genome": self.genome}

    def locate(self, layer: str | None) -> Matrix:
        matrix = super().locate(layer)
        if self._kept is None:
            return matrix
        if len(self._kept) != matrix.shape[1]:
            pointer = f"{V3_ROOT}/features/genome"
            raise located(
                "wrong-length",
                pointer,
                f"{pointer} holds {len(self._kept):,} values, not {matrix.shape[1]:,}.",
            )
        shape = (matrix.shape[0], int(self._kept.sum()))
        return Matrix(matrix.name, matrix.path, matrix.var_path, "csr", shape)

    def genes(self, matrix: Matrix | None, findings: Findings) -> Table:
        ids = self._names(f"features/{self._key()}")
        table = feature_table(
            f"{self.root}/features",
            ids,
            names=self._optional("features/name", len(ids), findings),
            types=self._optional("features/feature_type", len(ids), findings),
            genomes=self._optional("features/genome", len(ids), findings),
        )
        if self._kept is None or len(self._kept) != len(table):
            return table
        kept = pa.array(self._kept)
        columns = [Column(each.name, each.values.filter(kept)) for each in table.columns]
        return Table(table.path, table.index.filter(kept), None, columns, table.unread)

    def blocks(self, matrix: Matrix, survey: Survey) -> Iterator[RowBlock]:
        if self._kept is None:
            yield from super().blocks(matrix, survey)
            return
        places = np.where(self._kept, np.cumsum(self._kept) - 1, -1).astype(np.int32)
        for block in super().blocks(self._whole(matrix), survey):
            yield select(block, places)

    def examine(self, matrix: Matrix, survey: Survey, findings: Findings) -> None:
        super().examine(self._whole(matrix), survey, findings)

    def dropped(self, matrix: Matrix) -> dict[str, list[str]]:
        keys = self.source.keys(f"{self.root}/features")
        others = [name for name in keys if name not in KNOWN_FEATURES]
        return {"features": others} if others else {}

    def _whole(self, matrix: Matrix) -> Matrix:
        """The matrix as it is stored, with the features of all genomes."""
        return super().locate(None)

    def _key(self) -> str:
        features = f"{self.root}/features"
        lacks_ids = self.source.has(f"{features}/name") and not self.source.has(f"{features}/id")
        return "name" if lacks_ids else "id"

    def _of_genome(self, genome: str) -> Array:
        genomes = self._names("features/genome")
        kept = pc.equal(genomes, genome)
        if not pc.any(kept).as_py():
            found = sorted({name for name in pc.unique(genomes).to_pylist() if name})
            raise _unknown_genome(f"{V3_ROOT}/features/genome", genome, found)
        found_at: Array = kept.to_numpy(zero_copy_only=False)
        return found_at


def _unknown_genome(pointer: str, genome: str, genomes: list[str]) -> Problem:
    return located(
        "unknown-genome",
        pointer,
        f"The file has no genome {genome!r}; it has {_listed(genomes) or 'none by name'}.",
        "Send it again with one of these as genome=..., or without.",
    )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(f"`{name}`" for name in names[:20]) + more
