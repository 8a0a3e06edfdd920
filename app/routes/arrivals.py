"""A file arriving over HTTP: refused by its headers, or received whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio import to_thread
from fastapi import Request

from app.declarations import read_declaration
from app.parts import StagedPart
from app.problems import (
    BodyTooLarge,
    ContentRangeUnsupported,
    DigestMismatch,
    DiskFull,
    EmptyFile,
    LengthMismatch,
    MalformedUpload,
    UnsupportedMediaType,
    UploadStalled,
)
from app.routes.upload_options import safe_filename
from app.service import Service
from app.staging import disk_full_told
from app.uploads import Received

UPLOAD_PROBLEMS = (
    BodyTooLarge,
    ContentRangeUnsupported,
    DigestMismatch,
    DiskFull,
    EmptyFile,
    LengthMismatch,
    MalformedUpload,
    UnsupportedMediaType,
    UploadStalled,
)

_BYTES = {"type": "string", "format": "binary"}
FILE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": _BYTES},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"oneOf": [_BYTES, {"type": "array", "items": _BYTES}]}},
                    "additionalProperties": {"type": "string"},
                }
            },
        },
    }
}


@asynccontextmanager
async def arrive(request: Request, service: Service, sha256: str | None) -> AsyncIterator[Received]:
    """The file, or files, staged. The body of the `with` publishes them; what it leaves behind is
    removed."""
    declared = read_declaration(request.headers, sha256=sha256, max_bytes=service.uploads.max_bytes)
    received = await service.uploads.receive(request.stream(), declared)
    try:
        with disk_full_told():
            yield received
    finally:
        await to_thread.run_sync(received.discard)


def other_parts(received: Received) -> list[StagedPart]:
    """What came in the form after the first file."""
    return [StagedPart(staged, safe_filename(name)) for staged, name in received.others]
