"""Calls of the service with curl, shown as they are made."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

from demo.failures import DemoFailed
from demo.steps import tell


def require_curl() -> None:
    if shutil.which("curl") is None:
        raise DemoFailed(
            "The demo speaks to the service with curl, and there is no curl here: install it."
        )


def curl_json(url: str, *arguments: str) -> dict[str, Any]:
    """What the service answers to one call."""
    answer: dict[str, Any] = json.loads(_curl(*arguments, url))
    return answer


def curl_file(url: str, path: Path) -> None:
    _curl("-o", str(path), url, body_in=path)


def _curl(*arguments: str, body_in: Path | None = None) -> str:
    tell(f"$ curl {shlex.join(arguments)}")
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--fail-with-body", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        body = body_in.read_text(errors="replace") if body_in and body_in.exists() else done.stdout
        raise DemoFailed(f"{arguments[-1]} did not do as asked: {_reason(body, done.stderr)}")
    return done.stdout


def _reason(body: str, stderr: str) -> str:
    """The service's own words where it answered, curl's where it did not."""
    try:
        problem = json.loads(body)
        return f"{problem['detail']} {problem['fix']}"
    except (ValueError, KeyError, TypeError):
        return stderr.strip()
