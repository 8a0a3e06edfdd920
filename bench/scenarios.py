"""References and queries on which mappings are judged: real sets where they are, and simulated."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anndata
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from bench.simulated_shifts import Shift, simulate_shift
from worker.known_cells import NO_NAME

N_GENES = 2000
UNLABELLED = ("unknown", "unassigned")

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Scenario:
    """Cells of a reference and of a query, with `batch`, `cell_type` and `condition` in obs."""

    name: str
    reference: anndata.AnnData
    query: anndata.AnnData
    is_matched: bool
    """Whether the query's cells have their like in the reference, so that they should mix."""
    control: str | None = None
    """Of two conditions that cells of each batch are in, of both; None: there is one."""


Split = Callable[[anndata.AnnData, int], Mask]
"""Which cells are the query's, by the seed."""


class SetIsAway(Exception):
    """A real set is not on this machine."""


def _of(key: str, *values: str) -> Split:
    return lambda cells, _seed: cells.obs[key].isin(values).to_numpy()


def _third(cells: anndata.AnnData, seed: int) -> Mask:
    chosen = np.random.default_rng(seed).permutation(cells.n_obs)[: cells.n_obs // 3]
    return np.isin(np.arange(cells.n_obs), chosen)


def _lanes(cells: anndata.AnnData, seed: int) -> Mask:
    """One lane of each of the two experiments."""
    names = sorted(set(cells.obs["batch"]))
    first = [name for name in names if not name.startswith("E2")]
    second = [name for name in names if name.startswith("E2")]
    held_out = {first[seed % len(first)], second[seed % len(second)]}
    return cells.obs["batch"].isin(held_out).to_numpy()


def _one_batch(cells: anndata.AnnData, seed: int) -> Mask:
    names = sorted(set(cells.obs["batch"]))
    return (cells.obs["batch"] == names[seed % len(names)]).to_numpy()


def _real(
    folder: str,
    split: Split,
    name: str,
    seed: int,
    *,
    is_matched: bool = True,
    only: str | None = None,
    control: str | None = None,
) -> Scenario:
    """`only`: the batch that alone is looked at; with a `control`, batches are whole donors."""
    path = Path(os.environ.get("BENCH_DATA", "../shared/data")) / folder / f"{folder}.h5ad"
    if not path.exists():
        raise SetIsAway(str(path))
    cells = _read(path)
    if only is not None:
        cells = cells[cells.obs["batch"] == only].copy()
    if control is not None:
        cells.obs["batch"] = [batch[-3:] for batch in cells.obs["batch"]]
    held_out = split(cells, seed)
    if cells.n_vars > N_GENES:
        cells = cells[:, _variable(cells[~held_out])].copy()
    query = cells[held_out].copy()
    query.obs["batch"] = "query " + query.obs["batch"]
    return Scenario(name, cells[~held_out].copy(), query, is_matched, control)


def _read(path: Path) -> anndata.AnnData:
    cells = anndata.read_h5ad(path)
    cells.X = sp.csr_matrix(cells.X, dtype=np.float32)
    for key in ("batch", "cell_type", "condition"):
        names = cells.obs[key].astype(str) if key in cells.obs else NO_NAME
        cells.obs[key] = names
    cells.obs["cell_type"] = cells.obs["cell_type"].replace(dict.fromkeys(UNLABELLED, NO_NAME))
    return cells


def _variable(cells: anndata.AnnData) -> Mask:
    """The genes of the reference that vary most; without batches, which are too small for it."""
    import scanpy

    found = scanpy.pp.highly_variable_genes(
        cells, n_top_genes=N_GENES, flavor="seurat_v3", span=1.0, inplace=False
    )
    return np.asarray(found["highly_variable"], dtype=np.bool_)


def _simulated(shift: Shift, name: str, seed: int) -> Scenario:
    reference, query = simulate_shift(shift, seed)
    return Scenario(name, reference, query, True, "control" if shift.stimulated else None)


_kang = partial(_real, "kang_muscat_1556")
_cite = partial(_real, "pbmc_citeseq_10k5k")

SCENARIOS: Mapping[str, Callable[[str, int], Scenario]] = {
    "kang stimulated": partial(_kang, _of("condition", "stim"), is_matched=False),
    "kang donor": partial(_kang, _of("batch", "107"), control="ctrl"),
    "kang ctrl101": partial(_kang, _of("batch", "ctrl101")),
    "kang ctrl107": partial(_kang, _of("batch", "ctrl107")),
    "kang stim101": partial(_kang, _of("batch", "stim101")),
    "kang stim107": partial(_kang, _of("batch", "stim107")),
    "pbmc3k third": partial(_real, "pbmc3k_2638", _third),
    "cite 10k to 5k": partial(_cite, _of("batch", "pbmc5k_v3")),
    "hao lanes": partial(_real, "pbmc_hao_1000", _lanes),
    "ctcl hashtag": partial(_real, "citeseq_ctcl_500", _one_batch),
    "simulated weak": partial(_simulated, Shift(batch=0.15)),
    "simulated strong": partial(_simulated, Shift(study=0.6)),
    "simulated composition": partial(_simulated, Shift(types=(0, 1, 4))),
    "simulated response": partial(_simulated, Shift(stimulated=True)),
    "cite third": partial(_cite, _third, only="pbmc10k_v3"),
}
"""The query of each: what is named, or held out."""


def scenario(name: str, seed: int) -> Scenario:
    """
    Raises:
        SetIsAway: it needs a set that is not here.
    """
    return SCENARIOS[name](name, seed)
