"""Which batches are held out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from worker.alignment import AlignedCounts
from worker.held_out_batches import held_out_batches
from worker.known_cells import NO_NAME, KnownCells


def cells(
    sizes: dict[str, int], labels: dict[str, Any] | None = None, **condition: Any
) -> KnownCells:
    """Batches of these sizes; labels and conditions by batch, dealt out in turn."""

    def dealt(names: dict[str, Any]) -> np.ndarray:
        return np.concatenate(
            [np.resize(names.get(each, [NO_NAME]), n) for each, n in sizes.items()]
        )

    batch = np.repeat(list(sizes), list(sizes.values()))
    counts = AlignedCounts.of_panel(sp.csr_matrix((len(batch), 1), dtype=np.float32))
    obs = pd.DataFrame({"batch": batch})
    return KnownCells(counts, obs, "batch", batch, dealt(labels or {}), dealt(condition))


@pytest.mark.parametrize(
    ("sizes", "folds"),
    [
        ({"a": 600, "b": 600, "c": 600}, [("a",), ("b",)]),
        ({"small": 210, "middling": 600, "large": 1200}, [("middling",), ("large",)]),
        ({"a": 1000, "b": 300}, [("b",)]),  # without a, 300 cells would be left
        ({"a": 650, "b": 550}, [("a",), ("b",)]),
        ({"a": 900, "b": 50}, []),
        ({"a": 2000}, []),
    ],
)
def test_batches_of_middling_size_come_first(
    sizes: dict[str, int], folds: list[tuple[str, ...]]
) -> None:
    assert held_out_batches(cells(sizes)) == folds


def test_small_batches_are_held_out_together() -> None:
    found = held_out_batches(cells({f"{i:03}": 30 for i in range(100)}))
    assert [len(fold) for fold in found] == [7, 7]
    assert not set(found[0]) & set(found[1])


def test_batches_with_many_shared_labels_come_first() -> None:
    sizes = {"a": 600, "b": 600, "c": 600}
    labels = {"a": ["B"], "b": ["B", "own", "other"], "c": ["B", "T"]}
    assert held_out_batches(cells(sizes, labels))[0] == ("a",)  # T is in no other batch
    labels["a"] = ["B", "T"] * 4 + ["NK"]
    labels["b"] = ["NK", "B"]
    assert held_out_batches(cells(sizes, labels))[0] == ("a",)
    labels = {"a": ["B"] * 599 + ["T"], "b": ["B", "T"], "c": ["T"]}  # one cell is not enough
    assert held_out_batches(cells(sizes, labels))[0] == ("b",)


def test_batches_with_several_conditions_come_first() -> None:
    sizes = {"a": 600, "b": 600, "c": 600}
    told = cells(sizes, a=["control"], b=["stimulated"], c=["control", "stimulated"])
    assert held_out_batches(told)[0] == ("c",)


def test_the_order_of_cells_decides_nothing() -> None:
    told = cells({"a": 600, "b": 700, "c": 800}, {"a": ["B"], "b": ["B", "T"], "c": ["T", "B"]})
    order = np.random.default_rng(0).permutation(len(told))
    mixed = KnownCells(
        told.counts, told.obs, "batch", told.batch[order], told.labels[order], told.condition[order]
    )
    assert held_out_batches(mixed) == held_out_batches(told)
