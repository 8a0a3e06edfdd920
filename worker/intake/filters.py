"""The compressions that a file may use: HDF5's own, and those that hdf5plugin brings."""

from __future__ import annotations

import functools

import h5py

OWN = frozenset({1, 2, 3, 32000})
"""deflate, shuffle, fletcher32, lzf: what h5py brings itself and anndata writes."""
PLUGINS = {"blosc": 32001, "zstd": 32015}
"""What anndata's documentation and the field's archives use beside them."""
NAMES = {4: "szip", 5: "nbit", 6: "scaleoffset", 307: "bzip2", 32004: "lz4", 32008: "bitshuffle"}
NAMES |= {32013: "zfp", 32026: "blosc2"}


def is_allowed(code: int) -> bool:
    """Whether data compressed so may be read. The first of hdf5plugin's loads them."""
    if code in OWN:
        return True
    if code in PLUGINS.values():
        load_plugins()
        return True
    return False


@functools.cache
def load_plugins() -> None:
    """Register the two, and no other: a file may name a filter also where no dataset shows it.

    To be called before a process gives up its rights: it reads libraries.
    """
    import hdf5plugin

    for name, code in hdf5plugin.FILTERS.items():
        if name not in PLUGINS and h5py.h5z.filter_avail(code):
            h5py.h5z.unregister_filter(code)


def filter_name(code: int) -> str:
    return NAMES.get(code, f"number {code}")
