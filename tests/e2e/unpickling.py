"""Put first on PYTHONPATH as `sitecustomize`: every unpickling in the service is told, and fails.

numba keeps machine code that it compiled itself in files beside the source, as Python keeps byte
code, and reads their index with pickle. That is no file that came from anybody.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

TOLD = Path(os.environ["UNPICKLED"])


def _caller() -> str:
    frame = sys._getframe(2)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "pickle.find_class":
        return
    caller = _caller()
    if "/numba/" in caller:
        return
    with TOLD.open("a") as file:
        file.write(f"{os.getpid()} {arguments} {caller}\n")
    raise RuntimeError(f"something was unpickled: {arguments}, by {caller}")


with TOLD.open("a") as file:
    file.write(f"{os.getpid()} listens\n")
sys.addaudithook(_hook)
