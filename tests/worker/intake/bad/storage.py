"""Bytes kept elsewhere: external raw storage and virtual datasets; and references."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from h5py import h5p, h5s, h5t

from tests.worker.intake import files

from .registry import breaks

RAW, VIRTUAL, REFERENCES = "external raw storage", "virtual datasets", "references"
SHAPE = (files.CELLS, files.GENES)


def _raw(name: str, where: str, target: str, *, leads_out: bool = True) -> None:
    def function(file: h5py.File, folder: Path) -> None:
        kept = file[where][...] if where in file else np.zeros(8, dtype="f4")
        if where in file:
            del file[where]
        place = target.replace("HERE", str(folder))
        how = {"external": [(place, 0, kept.nbytes)]}
        file.create_dataset(where, kept.shape, kept.dtype, **how)

    function.__name__ = name
    breaks(RAW, f"/{where}", "external-storage", leads_out=leads_out)(function)


_raw("raw_storage_of_values", "X/data", "HERE/canary.bin")
_raw("raw_storage_of_indices", "X/indices", "HERE/canary.bin")
_raw("raw_storage_of_pointers", "X/indptr", "HERE/canary.bin")
_raw("raw_storage_of_codes", "obs/sample/codes", "HERE/canary.bin")
_raw("raw_storage_in_uns", "uns/secret", "HERE/canary.bin")
_raw("raw_storage_relative", "X/data", "canary.bin", leads_out=False)
_raw("raw_storage_by_dots", "X/data", "HERE/../canary.bin", leads_out=False)
_raw("raw_storage_in_a_device", "X/data", "HERE/device", leads_out=False)
_raw("raw_storage_in_a_fifo", "X/data", "HERE/fifo", leads_out=False)
_raw("raw_storage_in_a_system_file", "uns/passwd", "/etc/passwd", leads_out=False)
_raw("raw_storage_in_memory", "uns/maps", "/proc/self/maps", leads_out=False)


@breaks(RAW, "/X", "external-storage", leads_out=True)
def raw_storage_in_many_pieces(file: h5py.File, folder: Path) -> None:
    del file["X"]
    canary = str(folder / "canary.bin")
    row = 4 * files.GENES
    pieces = [(canary, row * at, row) for at in range(files.CELLS)]
    file.create_dataset("X", SHAPE, "f4", external=pieces)


def _virtual(file: h5py.File, where: str, source: str, name: str = "X") -> None:
    layout = h5py.VirtualLayout(SHAPE, "f4")
    layout[:] = h5py.VirtualSource(source, name, SHAPE)
    if where in file:
        del file[where]
    file.create_virtual_dataset(where, layout, fillvalue=1)


@breaks(VIRTUAL, "/X", "virtual-dataset", leads_out=True)
def virtual_matrix(file: h5py.File, folder: Path) -> None:
    _virtual(file, "X", str(folder / "canary.h5ad"), "dense")


@breaks(VIRTUAL, "/X", "virtual-dataset")
def virtual_matrix_relative(file: h5py.File, folder: Path) -> None:
    _virtual(file, "X", "./canary.h5ad", "dense")


@breaks(VIRTUAL, "/X", "virtual-dataset")
def virtual_matrix_of_the_same_file(file: h5py.File, folder: Path) -> None:
    file["dense"] = files.counts()
    _virtual(file, "X", ".", "dense")


@breaks(VIRTUAL, "/X", "virtual-dataset")
def virtual_matrix_of_itself(file: h5py.File, folder: Path) -> None:
    _virtual(file, "X", ".", "X")


@breaks(VIRTUAL, "/X", "virtual-dataset")
def virtual_matrix_without_a_source(file: h5py.File, folder: Path) -> None:
    _virtual(file, "X", "gone.h5", "X")


@breaks(VIRTUAL, "/X", "virtual-dataset")
def virtual_matrix_of_a_fifo(file: h5py.File, folder: Path) -> None:
    _virtual(file, "X", str(folder / "fifo"), "X")


@breaks(VIRTUAL, "/layers/counts", "virtual-dataset", leads_out=True)
def virtual_layer_that_is_not_read(file: h5py.File, folder: Path) -> None:
    _virtual(file, "layers/counts", str(folder / "canary.h5ad"), "dense")


@breaks(VIRTUAL, "/X/data", "virtual-dataset", leads_out=True)
def virtual_values(file: h5py.File, folder: Path) -> None:
    size = file["X/data"].size
    layout = h5py.VirtualLayout((size,), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "canary.h5ad"), "X/data", (size,))
    del file["X/data"]
    file.create_virtual_dataset("X/data", layout)


@breaks(VIRTUAL, "/X", "virtual-dataset")
def virtual_matrix_without_mappings(file: h5py.File, folder: Path) -> None:
    del file["X"]
    file.create_virtual_dataset("X", h5py.VirtualLayout(SHAPE, "f4"))


def _unlimited(file: h5py.File, where: str, source: str) -> None:
    """A virtual dataset whose very size depends on other files, `%b` counting them up."""
    if where in file:
        del file[where]
    properties = h5p.create(h5p.DATASET_CREATE)
    space = h5s.create_simple((1, files.GENES), (h5s.UNLIMITED, files.GENES))
    space.select_hyperslab((0, 0), (h5s.UNLIMITED, 1), (1, 1), (1, files.GENES))
    printf = "%b" in source
    other = h5s.create_simple((1, files.GENES), (h5s.UNLIMITED, files.GENES))
    if printf:
        other = h5s.create_simple((1, files.GENES))
    else:
        other.select_hyperslab((0, 0), (h5s.UNLIMITED, 1), (1, 1), (1, files.GENES))
    properties.set_virtual(space, source.encode(), b"dense", other)
    shape = h5s.create_simple((1, files.GENES), (h5s.UNLIMITED, files.GENES))
    h5py.h5d.create(file.id, where.encode(), h5t.IEEE_F32LE, shape, properties)


@breaks(VIRTUAL, "/X", "virtual-dataset", leads_out=True)
def virtual_matrix_of_unlimited_size(file: h5py.File, folder: Path) -> None:
    _unlimited(file, "X", str(folder / "canary.h5ad"))


@breaks(VIRTUAL, "/X", "virtual-dataset", leads_out=True)
def virtual_matrix_with_numbered_sources(file: h5py.File, folder: Path) -> None:
    (folder / "canary0.h5ad").write_bytes((folder / "canary.h5ad").read_bytes())
    _unlimited(file, "X", str(folder / "canary%b.h5ad"))


@breaks(REFERENCES, "/X", "not-numbers", layout="dense")
def matrix_of_object_references(file: h5py.File, folder: Path) -> None:
    del file["X"]
    file.create_dataset("X", SHAPE, h5py.ref_dtype)[0, 0] = file["obs"].ref


@breaks(REFERENCES, "/X/data", "not-numbers")
def values_that_are_region_references(file: h5py.File, folder: Path) -> None:
    size = file["X/data"].size
    names = file["obs/_index"]
    del file["X/data"]
    made = file.create_dataset("X/data", (size,), h5py.regionref_dtype)
    made[0] = names.regionref[1:3]


@breaks(REFERENCES, "/X/indptr", "pointers-not-integers")
def pointers_that_are_references(file: h5py.File, folder: Path) -> None:
    del file["X/indptr"]
    file.create_dataset("X/indptr", (files.CELLS + 1,), h5py.ref_dtype)


@breaks(REFERENCES, "/var/_index", "column-values")
def names_that_are_references(file: h5py.File, folder: Path) -> None:
    del file["var/_index"]
    made = file.create_dataset("var/_index", (files.GENES,), h5py.ref_dtype)
    made[:] = [file["X"].ref] * files.GENES


@breaks(REFERENCES, "/X", "matrix-shape")
def shape_that_is_a_reference(file: h5py.File, folder: Path) -> None:
    file["X"].attrs["shape"] = file["obs"].ref


@breaks(REFERENCES, "/X", "matrix-encoding")
def encoding_that_is_a_reference(file: h5py.File, folder: Path) -> None:
    file["X"].attrs["encoding-type"] = file["X"].ref


@breaks(REFERENCES, "/obs/_index", "column-values")
def names_that_are_sequences_of_references(file: h5py.File, folder: Path) -> None:
    del file["obs/_index"]
    kind = h5py.vlen_dtype(h5py.ref_dtype)
    made = file.create_dataset("obs/_index", (files.CELLS,), kind)
    made[0] = np.array([file["X"].ref] * 3, dtype=h5py.ref_dtype)
