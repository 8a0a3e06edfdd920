"""Latents of some of a reference's cells, as its bundle holds them."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch


def sample_latents(path: Path, most: int) -> torch.Tensor | None:
    """Latents of at most so many cells from everywhere in a cells.parquet, (c, n_latent).

    None for a table without cells.
    """
    with pq.ParquetFile(path) as table:
        n_cells = table.metadata.num_rows
        names = [name for name in table.schema_arrow.names if name.startswith("latent_")]
        step, before, kept = 1 + n_cells // most, 0, []
        for batch in table.iter_batches(columns=names):
            rows = np.column_stack([batch.column(name).to_numpy() for name in names])
            kept.append(rows[-before % step :: step])
            before += len(rows)
    return torch.from_numpy(np.concatenate(kept).astype(np.float32)) if n_cells else None
