"""What is wrong with the samples, conditions and cells that a mapping speaks of."""

from __future__ import annotations

from app.rfc9457 import Problem


class UnknownDesignColumn(Problem):
    status = 422
    title = "The query has no such column of samples, conditions or a filter."


class UnknownControlValue(Problem):
    status = 422
    title = "The condition column has none of the control values."


class UnfitCellFilter(Problem):
    status = 422
    title = "The cell filter does not fit the query."
