"""Where Python and Cellgraft keep what a reader of foreign files may read: code, and no secret."""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from functools import cache
from pathlib import Path

LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")
PACKAGES = ("app", "models_store", "worker")


@cache
def code_folders(*more: str) -> tuple[Path, ...]:
    """The standard library, installed packages and Cellgraft's own, with packages named besides.

    Of a package that is not installed only its folder: what else lies beside it, a data folder
    perhaps, is none of a reader's business.
    """
    found = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
    found += [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")]
    for package in (*PACKAGES, *more):
        spec = importlib.util.find_spec(package)
        found += [Path(place) for place in (spec and spec.submodule_search_locations) or ()]
    return _outermost({folder.resolve() for folder in found if folder.is_dir()})


def interpreter_places() -> tuple[Path, ...]:
    """What starting a new interpreter takes beside the code: the program and shared libraries."""
    prefixes = (Path(sys.prefix), Path(sys.base_prefix))
    places = [prefix / part for prefix in prefixes for part in ("bin", "lib", "lib64")]
    places += [Path(sys.executable).parent, Path(sys.prefix, "pyvenv.cfg"), *map(Path, LIBRARIES)]
    return tuple(dict.fromkeys(place for place in places if place.exists()))


def _outermost(folders: set[Path]) -> tuple[Path, ...]:
    return tuple(
        folder for folder in sorted(folders) if not any(each in folders for each in folder.parents)
    )
