"""Which proteins a batch was measured for."""

from __future__ import annotations

import torch

from models_store.cells import Cells
from models_store.protein_panels import measured_proteins, with_measured

Y = torch.tensor([[0.0, 2.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])


def test_a_protein_that_no_cell_of_a_batch_has_is_missing_there() -> None:
    found = measured_proteins(Y, torch.tensor([0, 0, 2, 2]))
    assert found is not None
    assert found.tolist() == [[False, True], [False, True], [True, False], [True, False]]


def test_one_batch_as_a_number() -> None:
    assert measured_proteins(Y, 5) is None
    found = measured_proteins(Y[:2], 5)
    assert found is not None
    assert found.tolist() == [[False, True], [False, True]]


def test_all_are_measured_where_each_batch_has_each() -> None:
    assert measured_proteins(Y, torch.tensor([0, 0, 0, 0])) is None
    assert measured_proteins(Y[:0], torch.zeros(0).long()) is None


def test_cells_by_their_panel_where_they_have_one() -> None:
    cells = Cells(torch.cat([torch.ones(4, 3), Y], 1), (torch.tensor([0, 0, 1, 1]),))
    found = with_measured(cells, 2).measured
    assert found is not None
    assert found[:, 0].tolist() == [False, False, True, True]
    of_panels = with_measured(
        Cells(cells.x, cells.codes, panel=torch.tensor([0, 1, 0, 0])), 2
    ).measured
    assert of_panels is not None
    assert of_panels.tolist() == [[True, True], [False, False], [True, True], [True, True]]
    assert with_measured(cells, 0) is cells
