"""Every jaxtyping annotation of models_store holds at run time.

In a process of its own: instrumented modules would slow every other test of this one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CHECKED = (
    "cells",
    "coders",
    "layers",
    "likelihoods",
    "reconstruction",
    "scanvi",
    "scvi",
    "surgery",
)
"""The manifest is pydantic's to check, and has no shapes."""
FILES = ("test_network.py", "test_scanvi.py", "test_surgery.py", "refused_shapes.py")


def test_shapes_hold_at_run_time() -> None:
    packages = ",".join(f"models_store.{name}" for name in CHECKED)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q"),
            f"--jaxtyping-packages={packages},beartype.beartype",
            *(str(HERE / name) for name in FILES),
        ],
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
