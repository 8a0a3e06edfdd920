"""Counts in the reference's order, and hashes that know a cell by its content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from models_store.gene_matching import GeneMatch
from tests.worker.engine.simulated import Simulated, simulate, write_canonical
from worker.alignment import AlignedCounts, fold_hashes, row_hashes


class Rows:
    """A matrix in memory, read as a canonical query is."""

    def __init__(self, matrix: np.ndarray) -> None:
        self._matrix = sp.csr_matrix(matrix.astype(np.float32))
        self.n_cells = matrix.shape[0]

    def rows(self, start: int, stop: int) -> sp.csr_matrix:
        return self._matrix[start:stop]

    def rows_of(self, cells: np.ndarray) -> sp.csr_matrix:
        return self._matrix[cells]


def match(positions: list[int], n_panel: int) -> GeneMatch:
    return GeneMatch(
        query_column="index",
        reference_column="ids",
        positions=tuple(positions),
        n_matched=len(set(positions) - {-1}),
        n_panel=n_panel,
        expected_expression_covered=1.0,
    )


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), n_cells=st.integers(1, 2100), n_panel=st.integers(1, 12))
def test_genes_are_moved_summed_and_dropped(seed: int, n_cells: int, n_panel: int) -> None:
    generator = np.random.default_rng(seed)
    counts = generator.poisson(0.7, (n_cells, 9))
    positions = generator.integers(-1, n_panel, 9).tolist()
    expected = np.zeros((n_cells, n_panel), dtype=np.float32)
    for gene, position in enumerate(positions):
        if position >= 0:
            expected[:, position] += counts[:, gene]
    aligned = AlignedCounts(Rows(counts), match(positions, n_panel))
    blocks = [rows.toarray() for _, _, rows in aligned.blocks(0, n_cells)]
    assert np.array_equal(np.vstack(blocks), expected)
    wanted = generator.permutation(n_cells)[: max(1, n_cells // 2)]
    assert np.array_equal(aligned.in_order(wanted).toarray(), expected[wanted])
    ascending = np.sort(wanted)
    assert np.array_equal(aligned.chosen(ascending).toarray(), expected[ascending])


def test_cells_are_read_by_themselves(tmp_path: Path) -> None:
    cells = simulate({"a": 40}, seed=1)
    counts = cells.counts.toarray()
    counts[[3, 4, 39]] = 0
    query = write_canonical(tmp_path / "query", Simulated(sp.csr_matrix(counts), cells.obs))
    for chosen in ([], [39], [0, 1, 2, 3, 4, 5, 9, 11, 12, 39], range(40)):
        found = query.rows_of(np.array(chosen, dtype=np.int64))
        assert np.array_equal(found.toarray(), counts[list(chosen)])
    whole = query.folder / "data.npy"
    whole.write_bytes(whole.read_bytes()[:-4])
    with pytest.raises(ValueError, match="cut short"):
        query.rows_of(np.arange(39))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_hashes_depend_on_content_alone(seed: int) -> None:
    generator = np.random.default_rng(seed)
    counts = sp.csr_matrix(generator.poisson(0.4, (50, 20)).astype(np.float32))
    order = generator.permutation(50)
    assert np.array_equal(row_hashes(counts)[order], row_hashes(counts[order]))


def test_hashes_tell_cells_apart() -> None:
    counts = sp.csr_matrix(np.eye(200, dtype=np.float32) + np.arange(200)[:, None] % 7)
    assert len(np.unique(row_hashes(counts), axis=0)) == 200
    plain = row_hashes(counts)
    folded = fold_hashes(plain, [np.arange(200, dtype=np.uint64)])
    assert len(np.unique(folded, axis=0)) == 200
    assert not np.array_equal(plain, folded)


def test_empty_cells_have_a_hash_too(tmp_path: Path) -> None:
    query = write_canonical(tmp_path / "q", simulate({"a": 3}))
    rows = query.rows(0, 3)
    rows.data[rows.indptr[1] : rows.indptr[2]] = 0
    rows.eliminate_zeros()
    assert not row_hashes(rows)[1].any()
