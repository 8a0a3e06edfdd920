"""What totalVI knows of proteins beside its decoder: numbers for each batch, panel or label.

Notation as in `layers`; p proteins.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models_store.architecture import Architecture
from models_store.cells import Cells
from models_store.coders import Dispersion
from models_store.layers import Code
from models_store.protein_likelihood import ProteinCounts

START_OF_BACKGROUND = 3.0
"""Mean of the log background before it is known, as in scvi-tools."""


def dispersion_by(by: str, *, n_batches: int, n_labels: int, width: int) -> Dispersion:
    """A table of log θ with as many rows as `gene-batch` or `protein-label`, say, asks for."""
    rows = {"batch": n_batches, "label": n_labels}
    return Dispersion(rows.get(by.partition("-")[2], 1), width)


def log_theta(table: Dispersion, by: str, cells: Cells) -> Float[Tensor, "*#c n"]:
    """log θ for all cells, or for each by its batch or label; an unknown label has the mean."""
    if by.endswith("-batch"):
        return torch.as_tensor(table(cells.codes[0]))
    if by.endswith("-label"):
        assert cells.labels is not None
        mean = table.reference.detach().mean(0, keepdim=True)
        return nn.functional.embedding(cells.labels, torch.cat([table.reference, mean]))
    return table.reference[0]


class ProteinTables(nn.Module):
    """Dispersion, prior of the background, and efficiency of the proteins."""

    def __init__(self, a: Architecture, n_batches: int, n_labels: int) -> None:
        super().__init__()
        p = a.n_proteins
        self.by, self.n_batches, self.n_panels = a.protein_dispersion, n_batches, a.n_panels
        self.dispersion = dispersion_by(self.by, n_batches=n_batches, n_labels=n_labels, width=p)
        self.background_mean = Dispersion(a.n_panels or n_batches, p)
        self.background_log_sd = Dispersion(a.n_panels or n_batches, p)
        # Of new batches it is 0, and stays.
        self.log_efficiency = nn.Parameter(torch.zeros(n_batches if a.protein_efficiency else 0, p))
        with torch.no_grad():
            self.dispersion.reference.uniform_(0, 2)
            self.background_mean.reference.fill_(START_OF_BACKGROUND)
            self.background_log_sd.reference.zero_()

    def counts(
        self, y: Float[Tensor, "c p"], cells: Cells, noise: Float[Tensor, "c p"]
    ) -> ProteinCounts:
        """The cells' proteins with what is known of their batches."""
        panel = self._panel(cells)
        return ProteinCounts(
            y,
            cells.measured,
            noise,
            _prior(self.background_mean, panel),
            _prior(self.background_log_sd, panel),
            log_theta(self.dispersion, self.by, cells),
            self.efficiency(cells.codes[0]),
        )

    def efficiency(self, batch: Code) -> Float[Tensor, "*c p"] | None:
        """The log of how well proteins are caught; 0 of new batches, None where it is not known."""
        known = self.log_efficiency
        if not len(known):
            return None
        rows = torch.cat([known, torch.zeros_like(known[:1])])
        if isinstance(batch, int):
            return rows[min(batch, len(known))]
        return nn.functional.embedding(batch.clamp(max=len(known)), rows)

    def batch_tables(self) -> Iterator[Dispersion]:
        """Those to which surgery adds a row for each new batch."""
        yield self.background_mean
        yield self.background_log_sd
        if self.by == "protein-batch":
            yield self.dispersion

    def _panel(self, cells: Cells) -> Code:
        """The row of the background of each cell: of its panel, a new batch being its own.

        Where a reference has panels and the panel of a cell of its batches is not told, the row
        after all others, which is their mean.
        """
        if cells.panel is not None:
            return cells.panel
        batch = cells.codes[0]
        if not self.n_panels:
            return batch
        unknown, shift = self.n_panels + len(self.background_mean.query), self.n_panels
        shift -= self.n_batches
        if isinstance(batch, int):
            return batch + shift if batch >= self.n_batches else unknown
        return torch.where(batch >= self.n_batches, batch + shift, unknown)


def _prior(table: Dispersion, panel: Code) -> Float[Tensor, "*c p"]:
    mean = table.reference.detach().mean(0, keepdim=True)
    rows = torch.cat([table.reference, table.query, mean])
    return rows[panel] if isinstance(panel, int) else nn.functional.embedding(panel, rows)
