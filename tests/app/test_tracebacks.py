"""A log tells the type and the place of an exception, and no word of what was in hand."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys

import pytest

from app.logs import JsonLines, PlainLines
from app.tracebacks import places

CANARY = "anna-canary-1956"


def fail_twice() -> None:
    try:
        {}[CANARY]
    except KeyError as error:
        raise ValueError(f"no value for {CANARY}") from error


def caught() -> BaseException:
    with pytest.raises(ValueError, match=CANARY) as found:
        fail_twice()
    return found.value


def test_types_and_places_of_the_whole_chain() -> None:
    told = places(caught())
    assert CANARY not in told
    assert told.index("KeyError") < told.index("which led to") < told.index("ValueError")
    assert "test_tracebacks.py" in told
    assert "in fail_twice" in told


def test_the_number_of_a_system_error_is_told() -> None:
    assert places(OSError(28, "No space", f"/tmp/{CANARY}")).endswith("OSError (errno 28)")


def test_a_chain_that_bites_its_tail_ends() -> None:
    one, other = ValueError(CANARY), ValueError(CANARY)
    one.__cause__, other.__cause__ = other, one
    assert places(one).count("ValueError") == 10


@pytest.mark.parametrize("formatter", [JsonLines(), PlainLines("%(message)s")])
def test_log_lines_hold_no_message(formatter: logging.Formatter) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.getLogger("cellgraft.test-tracebacks")
    logger.propagate = False
    logger.addHandler(handler)
    try:
        fail_twice()
    except ValueError:
        logger.exception("it failed")
    written = stream.getvalue()
    assert CANARY not in written
    assert "it failed" in written
    assert "in fail_twice" in written
    if isinstance(formatter, JsonLines):
        assert "ValueError" in json.loads(written)["traceback"]


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("raise ValueError(CANARY)", "ValueError"),
        ("t = threading.Thread(target=lambda: 1 / len(CANARY[99:])); t.start()", "ZeroDivision"),
        (
            "def f():\n    raise KeyError(CANARY)\nt = threading.Thread(target=f); t.start()",
            "KeyErr",
        ),
        ("warnings.warn(CANARY)", "UserWarning"),
    ],
)
def test_what_nobody_catches_is_told_without_its_message(what: str, told: str) -> None:
    code = (
        "import threading, warnings, sys\nfrom app.tracebacks import tell_no_messages\n"
        f"tell_no_messages()\nCANARY = sys.argv[1]\n{what}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, CANARY], capture_output=True, text=True, check=False
    )
    assert told in done.stderr
    assert CANARY not in done.stderr
