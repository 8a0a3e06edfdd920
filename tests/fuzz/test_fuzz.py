"""A short `make fuzz`: 2,000 damaged files kill no parent and no mapping, and would kill others."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from .forking import Forks
from .mutants import Mutants
from .run import BATCH, Run
from .tally import Tally

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
FILES = 1000
"""Of each kind."""
SEED = 2026
CONTROL_EVERY = 5


@pytest.fixture(scope="module")
def tally() -> Tally:
    found = Tally()
    with Run(SEED, found, control_every=CONTROL_EVERY) as run:
        for kind in ("flips", "mutants"):
            for first in range(0, FILES, BATCH):
                run.stretch(kind, first, min(first + BATCH, FILES))
    return found


def test_no_promise_is_broken(tally: Tally) -> None:
    assert tally.done == {"flips": FILES, "mutants": FILES}
    assert tally.violations == {}, tally.examples
    assert tally.outcomes.total() == 2 * FILES


def test_files_are_accepted_and_mapped(tally: Tally) -> None:
    for kind in ("flips", "mutants"):
        assert tally.outcomes[f"{kind} accepted"] > FILES / 20
        assert tally.mapped[f"{kind} mapped"] > 5
        assert tally.in_zygote[f"{kind} accepted"] > 0


def test_without_the_proof_files_kill(tally: Tally) -> None:
    died = [number for how, number in tally.control.items() if "died: -" in how]
    assert sum(died) > 10
    assert tally.control.total() == 2 * FILES / CONTROL_EVERY


def test_a_number_gives_the_same_file_again(tmp_path: Path) -> None:
    made = [Mutants(tmp_path / "folder", SEED) for _ in range(2)]
    for kind in ("flips", "mutants"):
        for number in (3, 17, 44):
            for mutants, name in zip(made, ("a", "b"), strict=True):
                mutants.write(kind, number, tmp_path / name)
            assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_death_is_told_of_the_file_that_caused_it(tmp_path: Path) -> None:
    """Pointers that anndata believes, between two sound files."""
    sound, bad = Mutants(tmp_path, SEED).paths[0], tmp_path / "bad.h5ad"
    bad.write_bytes(sound.read_bytes())
    with h5py.File(bad, "a") as file:
        file["X/indices"][...] = np.int32(2**30)
    control = Forks("control")
    files = [[str(path), ""] for path in (sound, bad, sound)]
    before, death, after = control.treat(files)
    control.close()
    assert before == after == {"read": True}
    assert death["died"] < 0
