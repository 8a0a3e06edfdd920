"""constraints.txt pins every dependency, at a version that pyproject.toml allows."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .documents import text

PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([\w.-]+)==(\S+)$", text("constraints.txt"), re.MULTILINE)
}
GROUPS = ("worker", "hub", "dev", "parity")


def direct() -> list[Requirement]:
    project = tomllib.loads(text("pyproject.toml"))["project"]
    groups = [project["dependencies"], *(project["optional-dependencies"][g] for g in GROUPS)]
    return [Requirement(line) for group in groups for line in group]


def test_every_line_is_a_pin() -> None:
    lines = [line for line in text("constraints.txt").splitlines() if not line.startswith("#")]
    assert len(lines) == len(PINS)
    assert not any("+" in line or "@" in line for line in lines)


def test_direct_dependencies_are_pinned_as_allowed() -> None:
    for requirement in direct():
        pinned = PINS[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pinned, prereleases=True), requirement


def test_dependencies_of_dependencies_are_pinned() -> None:
    """As far as this environment has them: what an installed package needs here has a pin."""
    seen: set[str] = set()
    waiting = [(r.name, frozenset(r.extras)) for r in direct()]
    while waiting:
        name, extras = waiting.pop()
        assert canonicalize_name(name) in PINS, name
        for line in _needs(name):
            needed = Requirement(line)
            marks = [{"extra": extra} for extra in ("", *extras)]
            applies = needed.marker is None or any(needed.marker.evaluate(m) for m in marks)
            if applies and needed.name not in seen and not _optional_build(needed.name):
                seen.add(needed.name)
                waiting.append((needed.name, frozenset(needed.extras)))


def _needs(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:
        return []


def _optional_build(name: str) -> bool:
    """setuptools comes with builds, and a CUDA build of torch brings what a CPU build does not."""
    return canonicalize_name(name) in {"setuptools", "triton"} or name.startswith(
        ("nvidia-", "cuda-")
    )
