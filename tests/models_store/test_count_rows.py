"""Counts without their zeros."""

from __future__ import annotations

import torch

from models_store.count_rows import CountRows


def test_chosen_cells_come_back_whole_and_in_order() -> None:
    x = torch.poisson(torch.full((7, 5), 0.7), generator=torch.Generator().manual_seed(0))
    x[3] = 0
    rows = CountRows.of(x)
    assert len(rows.values) == int((x > 0).sum())
    index = torch.tensor([6, 3, 0, 0])
    assert torch.equal(rows.rows(index).dense(5), x[index])
    assert torch.equal(rows.rows(index).rows(slice(1, 3)).dense(5), x[index][1:3])
    assert len(rows.rows(slice(2, 2))) == 0
