"""The API runs with nothing installed but what its image has."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.app.live import answers, environment, free_port, until

from .documents import text

CHILD = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"not in the image: {name}", name=name)

ABSENT = set(sys.argv.pop(1).split(","))
sys.meta_path.insert(0, Absent())
from app.cli import main
main()
"""


def installed_in_the_image() -> set[str]:
    """The distributions that `dependencies` of pyproject.toml bring."""
    project = tomllib.loads(text("pyproject.toml"))["project"]
    waiting = [Requirement(line) for line in project["dependencies"]]
    found: set[str] = {"cellgraft"}
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        needed = waiting.pop()
        name, extras = canonicalize_name(needed.name), frozenset(needed.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        found.add(name)
        marks = [{"extra": extra} for extra in ("", *extras)]
        for inner in map(Requirement, requires(name) or []):
            if inner.marker is None or any(inner.marker.evaluate(mark) for mark in marks):
                waiting.append(inner)
    return found


def absent_modules() -> set[str]:
    """Modules of this environment that the image lacks."""
    present = installed_in_the_image()
    return {
        module
        for module, owners in packages_distributions().items()
        if not present.intersection(canonicalize_name(owner) for owner in owners)
        and re.fullmatch(r"\w+", module)
    } - {"app", "worker", "models_store", "tests", "_distutils_hack"}


def test_the_compute_side_is_absent() -> None:
    assert {"torch", "h5py", "anndata", "scanpy", "numba"} <= absent_modules()
    assert not {"fastapi", "sqlalchemy", "psycopg", "celery", "obstore"} & absent_modules()


def test_the_api_serves_without_the_compute_side(tmp_path: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, ",".join(absent_modules()), "api"],
        env=environment(tmp_path, port),
    )
    try:
        until(lambda: process.poll() is not None or answers(port, "/readyz"))
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait(30)
