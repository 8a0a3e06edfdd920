"""Mutations of datasets: other types, shapes, values, chunks, filters and storage."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from .choosing import Mutation, dataset_in, either, matrix_part, pick

EXTREMES = (0, 1, -1, 2, -2, 39, 40, 41, 59, 60, 61, 127, 128, 255, 2**31 - 1, -(2**31), 2**32)
EXTREMES += (2**53, 2**62, 2**63 - 1, -(2**63))
ODD_FLOATS = (np.nan, np.inf, -np.inf, -0.0, 0.5, -1.0, 1e-45, 3e38, 2.0**24, 2.0**24 + 2)
NUMBERS = ("i1", "u1", "<i2", ">i2", "<u4", ">i4", "<i8", ">u8", "<u8", "f2", "<f4", ">f8", "c8")
NUMBERS += ("g", "?")


def _odd_types() -> list[np.dtype]:
    return [
        h5py.string_dtype(),
        h5py.string_dtype("ascii", 7),
        h5py.vlen_dtype(np.int32),
        h5py.enum_dtype({"a": 0, "b": 1, "c": 7}, basetype="i1"),
        h5py.opaque_dtype(np.dtype("M8[s]")),
        np.dtype([("x", "f4"), ("y", "S3"), ("z", "i8", (2, 3))]),
        np.dtype(("i4", (3,))),
        np.dtype("V12"),
        h5py.ref_dtype,
        h5py.regionref_dtype,
    ]


def replace(file: h5py.File, path: str, **how: object) -> h5py.Dataset:
    attributes = {}
    for name in file[path].attrs:
        attributes[name] = file[path].attrs[name]
    del file[path]
    made = file.create_dataset(path, **how)
    made.attrs.update(attributes)
    return made


def other_number_type(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    path = dataset_in(file, rng)
    values = file[path][...]
    with np.errstate(all="ignore"):
        replace(file, path, data=np.asarray(values).astype(pick(rng, NUMBERS)))


def odd_type(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    path = dataset_in(file, rng)
    shape = file[path].shape
    replace(file, path, shape=shape, dtype=pick(rng, _odd_types()))


def other_length(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    path = dataset_in(file, rng)
    values = file[path][...]
    change = int(pick(rng, (-len(values), -17, -2, -1, 1, 2, 60, 4097)))
    data = values[:change] if change < 0 else np.concatenate([values, values[:1].repeat(change)])
    replace(file, path, data=data)


def other_shape(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    path = dataset_in(file, rng)
    kind, size = file[path].dtype, int(file[path].size)
    shapes = ((), (size, 1), (1, size), (0,), (0, 0), (size, 0), (1,) * 32, (2, 3, 4))
    replace(file, path, shape=pick(rng, shapes), dtype=kind)


def null_space(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    path = dataset_in(file, rng)
    replace(file, path, data=h5py.Empty(file[path].dtype))


def declares_much(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    """Sizes that nothing stands behind, with and without chunks."""
    path = dataset_in(file, rng)
    size = int(pick(rng, (10**5, 10**7, 2**31, 2**33, 2**40, 2**62)))
    shape = (size,) if file[path].ndim < 2 else pick(rng, ((size, 40), (60, size), (size, size)))
    chunks = tuple(int(pick(rng, (1, 100, 4096))) for _ in shape)
    fill = pick(rng, (None, 0, 1, 255))
    replace(file, path, shape=shape, dtype=file[path].dtype, chunks=chunks, fillvalue=fill)


def odd_values(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    """A few values, or all of them, of any dataset of numbers."""
    stored = file[dataset_in(file, rng, "iufb")]
    values = np.atleast_1d(np.asarray(stored[...]))
    among = ODD_FLOATS if values.dtype.kind == "f" else EXTREMES
    _set_some(values, among, rng)
    stored[...] = values.reshape(stored.shape)


def odd_entries(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    """The arrays of a sparse matrix, where out of bounds hurts most."""
    path = matrix_part(file, rng)
    values = file[path][...]
    if values.dtype.kind in "iu" and either(rng):
        values = values.astype(np.int64)
    _set_some(values, EXTREMES if values.dtype.kind in "iu" else ODD_FLOATS, rng)
    replace(file, path, data=values)


def _set_some(values: np.ndarray, among: tuple, rng: np.random.Generator) -> None:
    number = len(values) if rng.random() < 0.1 else int(rng.integers(1, 4))
    for at in rng.integers(0, len(values), number):
        with np.errstate(all="ignore"):
            values.reshape(-1)[at] = np.asarray(pick(rng, among)).astype(values.dtype)


def reordered(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    path = matrix_part(file, rng)
    values = file[path][...]
    how = int(rng.integers(5))
    if how == 0:
        rng.shuffle(values)
    elif how == 1:
        values = values[::-1]
    elif how == 2:
        values = np.sort(values)
    else:
        values = np.roll(values, int(rng.integers(1, 9))) if how == 3 else values + 1
    file[path][...] = values


def repeated_entries(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    path = matrix_part(file, rng, "indices")
    values = file[path][...]
    at = rng.integers(1, len(values), int(rng.integers(1, 200)))
    values[at] = values[at - 1]
    file[path][...] = values


def other_storage(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    """The same values in odd chunks and under every filter that h5py brings."""
    path = dataset_in(file, rng)
    values = file[path][...]
    chunks = tuple(int(rng.integers(1, 2 * n + 2)) for n in values.shape)
    how: dict[str, object] = {"chunks": chunks, "maxshape": (None,) * values.ndim}
    how |= pick(
        rng,
        (
            {"compression": "gzip", "compression_opts": int(rng.integers(10))},
            {"compression": "lzf", "shuffle": True},
            {"fletcher32": True, "shuffle": True, "compression": "gzip"},
            {"scaleoffset": int(rng.integers(1, 8))},
            {"compression": "szip"},
            {},
        ),
    )
    replace(file, path, data=values, **how)


def garbage_in_a_chunk(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    """A chunk whose bytes its filters never wrote, with any mask of skipped filters."""
    path = dataset_in(file, rng)
    values = file[path][...]
    filters = pick(rng, ({"compression": "gzip"}, {"compression": "lzf"}, {"fletcher32": True}))
    stored = replace(file, path, data=values, chunks=True, shuffle=either(rng), **filters)
    garbage = rng.bytes(int(pick(rng, (0, 1, 4, 64, 1000, 70_000))))
    stored.id.write_direct_chunk((0,) * values.ndim, garbage, int(pick(rng, (0, 1, 2, 7))))


def fill_alone(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    """Nothing is stored: every value is the fill value."""
    path = dataset_in(file, rng, "iuf")
    kind, shape = file[path].dtype, file[path].shape
    fill = np.asarray(pick(rng, ODD_FLOATS if kind.kind == "f" else EXTREMES[:12]))
    with np.errstate(all="ignore"):
        replace(file, path, shape=shape, dtype=kind, fillvalue=fill.astype(kind))


def external_storage(file: h5py.File, rng: np.random.Generator, canary: Path) -> None:
    path = dataset_in(file, rng, "iufb")
    kind, shape = file[path].dtype, file[path].shape
    size = int(np.prod(shape)) * kind.itemsize
    where = pick(rng, (str(canary), canary.name, "/dev/zero", "/etc/passwd"))
    replace(file, path, shape=shape, dtype=kind, external=[(where, 0, max(size, 1))])


def virtual(file: h5py.File, rng: np.random.Generator, canary: Path) -> None:
    path = dataset_in(file, rng, "iuf")
    kind, shape = file[path].dtype, file[path].shape
    where = pick(rng, (str(canary), canary.name, ".", "missing.h5"))
    layout = h5py.VirtualLayout(shape, kind)
    layout[...] = h5py.VirtualSource(where, "data", shape)
    attributes = dict(file[path].attrs)
    del file[path]
    file.create_virtual_dataset(path, layout).attrs.update(attributes)


ARRAYS: tuple[Mutation, ...] = (
    other_number_type,
    odd_type,
    other_length,
    other_shape,
    null_space,
    declares_much,
    odd_values,
    odd_entries,
    odd_entries,
    odd_entries,
    reordered,
    repeated_entries,
    other_storage,
    garbage_in_a_chunk,
    fill_alone,
    external_storage,
    virtual,
)
"""Drawn from evenly, so what stands here three times is drawn three times as often."""
