"""The sandboxed reader: `python -m worker.imports.child --landlock-abi A --fd N ORDER` reads one
foreign file.

A fresh interpreter without secrets. It loads the libraries of its kind of file, gives up
everything that a reader does not need, and only then opens the file. All that it can do from then
on is write frames to the pipe N.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.parent_death import die_with_parent
from app.problems import FileTooLarge, Problem, UnreadableSave, UnsafeSave
from app.tracebacks import places, tell_no_messages
from worker.imports.refusal import Refusal
from worker.intake.filters import drop_other_plugins
from worker.intake.frames import FAULT, PROBLEM, REPORT, FrameWriter, Sink
from worker.intake.limits import Limits
from worker.sandbox import allow_last_words, enter_sandbox, keep_only

Read = Callable[[Sink], dict[str, Any]]

UNFILTERED = 3
"""The exit status of a reader that read without a filter in the kernel."""

FIXES = {
    "unreadable": "Load the model where it was made and save it again (model.save), or copy the "
    "file again and compare its size.",
    "unsafe": "Do not open this file with scvi-tools or torch. Ask for it at its source; if it is "
    "yours, save the model again without what is named here.",
    "too-large": "Check that the file is what its source offers. Files that torch.save wrote are "
    "never packed, and hold every number that they declare.",
}
PROBLEMS: Mapping[str, type[Problem]] = {
    "unreadable": UnreadableSave,
    "unsafe": UnsafeSave,
    "too-large": FileTooLarge,
}


def prepare(order: Mapping[str, Any]) -> tuple[Read, Sequence[str]]:
    """What reads this kind of file, its libraries loaded, and the names of what it writes."""
    if order["kind"] == "cells":
        from worker.imports.cells import CELLS_FILES, CellsRequest, read_cells

        request, limits = CellsRequest.of(order["request"]), Limits(**order["limits"])
        return lambda sink: read_cells(Path(order["path"]), request, limits, sink), CELLS_FILES
    from worker.imports.limits import SaveLimits
    from worker.imports.save import WEIGHTS, SaveFiles, read_save

    files = SaveFiles(**{name: Path(path) for name, path in order["files"].items()})
    bounds = SaveLimits(**order["save_limits"])
    return lambda sink: read_save(files, bounds, sink), (WEIGHTS,)


def _read(read: Read, frames: FrameWriter) -> None:
    try:
        frames.finish(REPORT, read(frames))
    except Problem as problem:
        frames.finish(PROBLEM, problem.as_dict())
    except Refusal as refusal:
        refused = PROBLEMS[refusal.why](refusal.reason, fix=FIXES[refusal.why])
        frames.finish(PROBLEM, refused.as_dict())
    except (MemoryError, RecursionError):
        allow_last_words()
        told = "Reading the file needs more memory than is allowed."
        frames.finish(PROBLEM, FileTooLarge(told, fix=FIXES["too-large"]).as_dict())
    except Exception as error:  # noqa: BLE001 - its places travel to the parent, which logs them
        frames.finish(FAULT, {"traceback": places(error)})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m worker.imports.child")
    parser.add_argument("--landlock-abi", type=int, required=True)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("order")
    arguments = parser.parse_args()
    order = json.loads(arguments.order)
    die_with_parent(signal.SIGKILL, parent=order["parent"])
    tell_no_messages()
    read, names = prepare(order)
    drop_other_plugins()
    frames = FrameWriter(keep_only(arguments.fd), names)
    filtered = enter_sandbox(
        Limits(**order["limits"]),
        landlock_abi=arguments.landlock_abi,
        reads=[Path(place) for place in order["reads"]],
    )
    _read(read, frames)
    os._exit(0 if filtered else UNFILTERED)


if __name__ == "__main__":
    main()
