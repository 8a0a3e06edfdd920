"""Small files that cost much: declared sizes, packed zeros, many objects, endless texts."""

from __future__ import annotations

import zlib
from pathlib import Path

import h5py
import numpy as np

from tests.worker.intake import files

from .registry import READER_SAYS, BadFile, breaks, enter, replace, sound

BOMBS, FILTERS = "bombs", "filters"


@breaks(BOMBS, "/X", "expands-too-much")
def declares_a_million_by_a_million(file: h5py.File, folder: Path) -> None:
    del file["X"]
    file.create_dataset("X", (10**6, 10**6), "f4", chunks=(1000, 1000))


@breaks(BOMBS, "/X", "declares-too-much")
def declares_more_than_a_disk_holds(file: h5py.File, folder: Path) -> None:
    del file["X"]
    file.create_dataset("X", (4 * 10**7, 4 * 10**6), "f8", chunks=(1000, 1000))


@breaks(BOMBS, "/X/data", "declares-too-much")
def declares_2_to_the_63_values(file: h5py.File, folder: Path) -> None:
    del file["X/data"]
    file.create_dataset("X/data", (2**62 - 1,), "i1", chunks=(1000,))


@breaks(BOMBS, "/X/data", "declares-too-much")
def declares_a_product_that_wraps_around(file: h5py.File, folder: Path) -> None:
    del file["X/data"]
    file.create_dataset("X/data", (2**31, 2**31), "i1", chunks=(10, 10))


@breaks(BOMBS, "/X", "expands-too-much")
def fill_values_alone(file: h5py.File, folder: Path) -> None:
    """Two hundred million ones that nobody ever wrote."""
    for name in ("X", "obs/_index"):
        del file[name]
    cells = 25_000_000
    file.create_dataset("X", (cells, files.GENES), "i1", chunks=(10**6, 8), fillvalue=1)
    file.create_dataset("obs/_index", (cells,), "i4", chunks=(10**6,), fillvalue=0)


@breaks(BOMBS, "/X/data", "expands-too-much")
def gzip_bomb(file: h5py.File, folder: Path) -> None:
    del file["X/data"]
    how = {"chunks": (2**24,), "compression": "gzip", "compression_opts": 1}
    bomb = file.create_dataset("X/data", (2**28,), "f4", **how)
    for chunk in range(2):
        bomb[chunk * 2**24 : (chunk + 1) * 2**24] = np.zeros(2**24, dtype=np.float32)


@breaks(BOMBS, "/X", "expands-too-much")
def dense_gzip_bomb(file: h5py.File, folder: Path) -> None:
    """Each of its chunks packs a million zeros, again and again the same bytes."""
    del file["X"]
    bomb = file.create_dataset(
        "X", (10**6, files.GENES), "f8", chunks=(2**17, files.GENES), compression="gzip"
    )
    bomb[: 2**17] = 0


def _inflated(file: h5py.File, name: str, size: int) -> None:
    """One small chunk, whose packed bytes unpack to far more than the chunk holds."""
    array = file[name][...]
    replace(file, name, array, chunks=array.shape, compression="gzip")
    packer = zlib.compressobj(9)
    zeros = bytes(2**24)
    first, *_, again = (packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(3))
    packed = first + again * (size // len(zeros) - 1)
    file[name].id.write_direct_chunk((0,), packed)


@breaks(BOMBS, "/X/data", *READER_SAYS, damaged=True)
def chunk_that_unpacks_to_two_gigabytes(file: h5py.File, folder: Path) -> None:
    _inflated(file, "X/data", 2**31)


@breaks(BOMBS, "/X/indptr", *READER_SAYS, damaged=True)
def pointers_that_unpack_to_two_gigabytes(file: h5py.File, folder: Path) -> None:
    _inflated(file, "X/indptr", 2**31)


@breaks(BOMBS, "/X/indices", "chunk-too-large")
def enormous_chunk(file: h5py.File, folder: Path) -> None:
    del file["X/indices"]
    file.create_dataset("X/indices", (8,), "i8", chunks=(2**28,), maxshape=(None,))


@breaks(BOMBS, "/obs/_index", "expands-too-much")
def fixed_text_of_a_gigabyte(file: h5py.File, folder: Path) -> None:
    del file["obs/_index"]
    file.create_dataset("obs/_index", (files.CELLS,), "S100000000", chunks=(1,))


@breaks(BOMBS, "/X", "attribute-too-large", libver="latest")
def shape_of_three_million_numbers(file: h5py.File, folder: Path) -> None:
    del file["X"]
    file.create_group("X").attrs.create("shape", np.zeros(3_000_000, dtype=np.int64))
    file["X"].attrs["encoding-type"] = "csr_matrix"


def _texts_that_share(folder: Path) -> Path:
    """A hundred thousand names, all the same megabyte of the file: 100 GB for who reads them."""
    path = sound(folder)
    with h5py.File(path, "a") as file:
        del file["obs/_index"]
        names = file.create_dataset("obs/_index", (2,), files.TEXT, chunks=(2,), maxshape=(None,))
        names[0] = names[1] = "x" * 2**20
        raw = _chunk(file, "obs/_index")
        one = raw[:16]
        names.resize((100_000,))
    with h5py.File(path, "a") as file:
        names = file["obs/_index"]
        for start in range(0, 100_000, 2):
            names.id.write_direct_chunk((start,), one * 2)
    return path


def _chunk(file: h5py.File, name: str) -> bytes:
    file.flush()
    packed: bytes = file[name].id.read_direct_chunk((0,))[1]
    return packed


enter(
    BadFile(
        "texts_that_share_their_bytes", BOMBS, _texts_that_share, ("out-of-memory",), "/obs/_index"
    )
)


def _many(name: str, pointer: str, what: str) -> None:
    def write(folder: Path) -> Path:
        path = sound(folder)
        with h5py.File(path, "a", libver="latest") as file:
            uns = file.create_group("uns")
            for number in range(100_001):
                if what == "soft":
                    uns[str(number)] = h5py.SoftLink("/X")
                else:
                    uns.id.links.create_external(b"%d" % number, b"gone", b"/")
        return path

    enter(BadFile(name, BOMBS, write, ("too-many-objects",), pointer))


_many("a_hundred_thousand_soft_links", "/uns", "soft")
_many("a_hundred_thousand_external_links", "/uns", "external")


@breaks(BOMBS, "/uns" + "/a" * 32, "too-deep")
def groups_nested_a_thousand_deep(file: h5py.File, folder: Path) -> None:
    group = file.create_group("uns")
    for _ in range(1000):
        group = group.create_group("a")


@breaks(BOMBS, "/obs", "too-many-columns", libver="latest")
def a_million_columns_by_name_alone(file: h5py.File, folder: Path) -> None:
    del file["obs"]
    obs = files.write_frame(file, "obs", files.names("cell", files.CELLS), [])
    obs.attrs.create("column-order", np.arange(1_000_000).astype("S8"))


def _filtered(name: str, code: int, *more: int, where: str = "X/data") -> None:
    """A dataset that says it went through a filter; its one chunk is what it says it is."""

    def function(file: h5py.File, folder: Path) -> None:
        array = file[where][...]
        attributes = dict(file[where].attrs)
        del file[where]
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk(array.shape)
        for each in (code, *more):
            properties.set_filter(each, h5py.h5z.FLAG_OPTIONAL, (4, 8))
        space = h5py.h5s.create_simple(array.shape)
        kind = h5py.h5t.py_create(array.dtype)
        made = h5py.h5d.create(file.id, where.encode(), kind, space, properties)
        made.write_direct_chunk((0,) * array.ndim, array.tobytes())
        file[where].attrs.update(attributes)

    function.__name__ = name
    breaks(FILTERS, f"/{where}", "unknown-filter")(function)


for number, title in {
    256: "testing",
    305: "unheard_of",
    32013: "zfp",
    32017: "sz",
    32028: "sperr",
    65535: "last",
}.items():
    _filtered(f"filter_{title}_of_number_{number}", number)
_filtered("filter_unknown_for_pointers", 306, where="X/indptr")
_filtered("filter_unknown_for_codes_of_names", 307, where="X/indices")
_filtered("filter_known_and_unknown", 2, 305)


@breaks(FILTERS, "/X/data", "unknown-filter")
def filter_deflate_three_times(file: h5py.File, folder: Path) -> None:
    array = file["X/data"][...]
    del file["X/data"]
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk(array.shape)
    for _ in range(3):
        properties.set_deflate(9)
    space = h5py.h5s.create_simple(array.shape)
    made = h5py.h5d.create(file.id, b"X/data", h5py.h5t.IEEE_F32LE, space, properties)
    made.write(h5py.h5s.ALL, h5py.h5s.ALL, array)


@breaks(FILTERS, "/X/data", "unknown-filter")
def filter_scale_offset(file: h5py.File, folder: Path) -> None:
    replace(file, "X/data", file["X/data"][...], chunks=True, scaleoffset=3)


@breaks(FILTERS, "/X/indices", "unknown-filter")
def filter_n_bit(file: h5py.File, folder: Path) -> None:
    array = file["X/indices"][...]
    del file["X/indices"]
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk(array.shape)
    properties.set_filter(h5py.h5z.FILTER_NBIT, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple(array.shape)
    made = h5py.h5d.create(file.id, b"X/indices", h5py.h5t.STD_I32LE, space, properties)
    made.write(h5py.h5s.ALL, h5py.h5s.ALL, array)
