"""Sending a stored file: whole, one range of it, or only its headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from app.problems import FileGone, RangeNotSatisfiable
from app.storage import Storage


@dataclass(frozen=True)
class StoredFile:
    key: str
    name: str
    bytes: int
    sha256: str
    media_type: str


def send_file(
    request: Request,
    storage: Storage,
    file: StoredFile,
    *,
    extra_headers: Mapping[str, str] | None = None,
) -> Response:
    etag = f'"{file.sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.name)}",
        "Cache-Control": "private, no-cache",
        **(extra_headers or {}),
    }
    if names_etag(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    start, end, status = 0, file.bytes, 200
    found = _range(request, file, etag)
    if found is not None:
        start, end = found
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.bytes}"
    headers["Content-Length"] = str(end - start)
    if request.state.headers_only:  # HEAD, see `app.doors`
        stored_size(storage, file.key)
        return Response(status_code=status, headers=headers, media_type=file.media_type)
    try:
        # Opened before the first header goes out: a file deleted meanwhile is still a proper 410.
        content = storage.read(file.key, start, end)
    except FileNotFoundError as error:
        raise _gone(file.key) from error
    return StreamingResponse(
        content, status_code=status, headers=headers, media_type=file.media_type
    )


def stored_size(storage: Storage, key: str) -> int:
    try:
        return storage.size(key)
    except FileNotFoundError as error:
        raise _gone(key) from error


def _gone(key: str) -> FileGone:
    return FileGone(
        f"{key.rpartition('/')[2]} is not in the store any more: it has just been deleted.",
        fix="If nobody deleted it, tell the administrator, who runs `cellgraft fsck`.",
    )


def names_etag(header: str | None, etag: str) -> bool:
    """Whether If-None-Match names this ETag, compared weakly."""
    if header is None:
        return False
    given = [part.strip().removeprefix("W/") for part in header.split(",")]
    return "*" in given or etag.removeprefix("W/") in given


def _range(request: Request, file: StoredFile, etag: str) -> tuple[int, int] | None:
    """A single range as (start, end); anything else that HTTP allows us to ignore is ignored."""
    given = request.headers.get("range")
    only_if = request.headers.get("if-range")
    if given is None or (only_if is not None and only_if != etag):
        return None
    found = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", given.strip())
    if found is None or found.group(0) == "bytes=-":
        return None
    first, last = found.groups()
    if first:
        start = int(first)
        if last and int(last) < start:
            return None
        end = min(int(last) + 1, file.bytes) if last else file.bytes
    else:
        start, end = max(file.bytes - int(last), 0), file.bytes
    if start >= end:
        problem = RangeNotSatisfiable(
            f"{file.name} has {file.bytes} bytes; {given!r} lies outside.",
            fix="Ask for a range inside the file, or for all of it without a Range header.",
            bytes=file.bytes,
        )
        problem.headers["Content-Range"] = f"bytes */{file.bytes}"
        raise problem
    return start, end
