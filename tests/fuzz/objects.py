"""Mutations of the tree: links, groups, names and attributes."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import numpy as np

from .choosing import Misses, Mutation, dataset_in, either, objects_of, pick

ENCODINGS = ("csr_matrix", "csc_matrix", "array", "dataframe", "categorical", "string-array")
ENCODINGS += ("nullable-integer", "nullable-boolean", "nullable-string-array", "awkward-array")
ENCODINGS += ("dict", "null", "", "\udcff", "x" * 5000)
NAMES = ("..", ".", "a\nb", "<script>", "ü", "x" * 2000, "__categories", "_index", "index", "X")
NAMES += ("obs", "var", "raw", "codes", "categories", "mask", "values", "\u202e", "None")


def _any(file: h5py.File, rng: np.random.Generator) -> str:
    return str(pick(rng, objects_of(file)))


def delete(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    del file[_any(file, rng)]


def rename(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    path = _any(file, rng)
    parent = path.rsplit("/", 1)[0] if "/" in path else ""
    file.move(path, f"{parent}/{pick(rng, NAMES)}")


def rename_to_bytes(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    """HDF5 does not promise that a name is text."""
    path = _any(file, rng).encode()
    odd = bytes(pick(rng, (b"\xff\xfe", b"\x80", b"\xed\xa0\x80")))
    file.id.links.move(path, file.id, path + odd)


def swap(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    one, other = _any(file, rng), _any(file, rng)
    if one.startswith(other) or other.startswith(one):
        raise Misses
    file.move(one, "swapped")
    file.move(other, one)
    file.move("swapped", other)


def copy_over(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    one, other = _any(file, rng), _any(file, rng)
    if one == other or other.startswith(f"{one}/") or one.startswith(f"{other}/"):
        raise Misses
    del file[other]
    file.copy(one, other)


def another_kind_of_object(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    path = _any(file, rng)
    attributes = dict(file[path].attrs)
    del file[path]
    made = int(rng.integers(3))
    if made == 0:
        file.create_group(path)
    elif made == 1:
        file[path] = np.dtype("f4")  # a named type is an object as well
    else:
        file[path] = rng.integers(0, 9, 60)
    file[path].attrs.update(attributes)


def hard_link(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    """The same object under two names, and groups that hold themselves."""
    one, group = _any(file, rng), str(pick(rng, [*objects_of(file, h5py.Group), "/"]))
    name = str(pick(rng, [*NAMES, *file[group]]))
    if name in file[group]:
        del file[group][name]
    file[group][name] = file[one]


def soft_link(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    path, other = _any(file, rng), _any(file, rng)
    if either(rng):
        del file[path]
    else:
        path = f"{path}2"
    targets = (f"/{other}", other, f"../{other}", f"/{path}", "/", ".", "", "/X/../X", "/gone")
    file[path] = h5py.SoftLink(pick(rng, targets) or ".")


def external_link(file: h5py.File, rng: np.random.Generator, canary: Path) -> None:
    path = _any(file, rng)
    if either(rng):
        del file[path]
    else:
        path = f"{path}2"
    where = str(pick(rng, (str(canary), canary.name, "/etc/passwd", "/dev/zero", file.filename)))
    file[path] = h5py.ExternalLink(where, pick(rng, ("/data", "/", path)))


def deep(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    where = pick(rng, [*objects_of(file, h5py.Group), "/"])
    file[where].create_group("/".join("d" * int(pick(rng, (5, 31, 33, 400)))))


def crowded(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    group = file[pick(rng, [*objects_of(file, h5py.Group), "/"])]
    for number in range(int(pick(rng, (9, 300)))):
        group[f"n{number}"] = h5py.SoftLink("/X") if number % 2 else np.dtype("i4")


def delete_attribute(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    attributes = file[_any(file, rng)].attrs
    del attributes[pick(rng, sorted(attributes))]


def odd_attribute(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    """Any attribute that a reader asks for, with anything in it."""
    attributes = file[_any(file, rng)].attrs
    known = ("shape", "encoding-type", "_index", "column-order", "ordered", "h5sparse_shape")
    name = pick(rng, sorted(attributes) + list(known))
    attributes.create(name, **_value(file, rng))


def _value(file: h5py.File, rng: np.random.Generator) -> dict[str, object]:
    text = h5py.string_dtype()
    values: tuple[dict[str, object], ...] = (
        {"data": 7},
        {"data": -1.5},
        {"data": np.array([60, 40, 1])},
        {"data": np.array([], dtype="i8")},
        {"data": np.zeros((3, 3))},
        {"data": h5py.Empty("f4")},
        {"data": "text"},
        {"data": b"\xff\xfe\x00x"},
        {"data": ["a", "b", "ü"], "dtype": text},
        {"data": np.bytes_(b"csr_matrix")},
        {"data": True},
        {"data": complex(1, 2)},
        {"data": np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])},
        {"data": np.void(b"\x01\x02\x03")},
        {"data": file["/"].ref, "dtype": h5py.ref_dtype},
        {"data": np.zeros(8000, dtype="i8")},
        {"data": None, "shape": (2,), "dtype": h5py.vlen_dtype(np.int32)},
        {"data": "y" * 60_000},
    )
    return dict(pick(rng, values))


def odd_shape(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    groups = [path for path in objects_of(file, h5py.Group) if "indptr" in file[path]]
    attributes = file[pick(rng, groups)].attrs
    name = "shape" if "shape" in attributes else "h5sparse_shape"
    sizes = (0, 1, -1, 39, 40, 41, 59, 60, 61, 2**31, 2**40, 2**63 - 1)
    shape = [pick(rng, (60, *sizes)), pick(rng, (40, *sizes))]
    attributes.create(name, np.array(shape, dtype=pick(rng, ("i8", "u8", "f8", "i4"))))


def odd_encoding(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    attributes = file[_any(file, rng)].attrs
    encoding = str(pick(rng, ENCODINGS)).encode("utf-8", "surrogateescape")
    attributes.create("encoding-type", np.bytes_(encoding))


def odd_columns(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    frames = [p for p in objects_of(file, h5py.Group) if "column-order" in file[p].attrs]
    group = file[pick(rng, frames)]
    names = [*group.keys(), *NAMES, "/etc/passwd", "../X/data", "/X", "sample/codes"]
    chosen = [pick(rng, names) for _ in range(int(rng.integers(5)))]
    if either(rng):
        group.attrs["_index"] = pick(rng, names)
    group.attrs.create("column-order", chosen, dtype=h5py.string_dtype(), shape=(len(chosen),))


def odd_text(file: h5py.File, rng: np.random.Generator, _: Path) -> None:
    """Names and categories: missing, repeated, without end, no text at all."""
    stored = file[dataset_in(file, rng, "SO")]
    values = stored[...].reshape(-1)
    texts = ("", "cell0", "gene0", "a\0b", "\nx", "=1+1", "\u202e", "z" * 70_000)
    number = len(values) if rng.random() < 0.1 else int(rng.integers(1, 5))
    for at in rng.integers(0, max(len(values), 1), number):
        values[at] = str(pick(rng, texts)).encode()
        if rng.random() < 0.2:
            values[at] = b"\xff\xfe" + struct.pack("<q", int(rng.integers(2**40)))
    stored[...] = values.reshape(stored.shape)


OBJECTS: tuple[Mutation, ...] = (
    delete,
    rename,
    rename_to_bytes,
    swap,
    copy_over,
    another_kind_of_object,
    hard_link,
    soft_link,
    external_link,
    deep,
    crowded,
    delete_attribute,
    odd_attribute,
    odd_attribute,
    odd_shape,
    odd_encoding,
    odd_columns,
    odd_text,
)
