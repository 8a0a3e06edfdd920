"""What a client declares before it sends a file: read, and refused, before a byte is taken."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.findings import empty_file
from app.problems import (
    BodyTooLarge,
    ContentRangeUnsupported,
    MalformedUpload,
    UnsupportedMediaType,
)

# curl --data-binary says `x-www-form-urlencoded` unless told otherwise, and means bytes.
RAW_TYPES = frozenset(
    {
        "",
        "application/octet-stream",
        "application/x-hdf5",
        "application/x-hdf",
        "application/vnd.hdf5",
        "application/x-h5ad",
        "application/gzip",
        "application/x-gzip",
        "application/zip",
        "application/x-zip-compressed",
        "application/x-tar",
        "application/x-www-form-urlencoded",
    }
)
FORM_OVERHEAD = 1024 * 1024
"""A form's part headers and fields come on top of the file."""


@dataclass(frozen=True)
class Declaration:
    length: int | None
    """Of the body: of the file itself unless it comes in a form."""
    sha256: str | None
    boundary: bytes | None
    """Set where the body is a multipart form."""


def read_declaration(
    headers: Mapping[str, str], *, sha256: str | None, max_bytes: int
) -> Declaration:
    """Everything that can be refused by the headers alone is refused here."""
    if "content-range" in headers:
        raise ContentRangeUnsupported(
            "This request sends only a part of a file, which would store a truncated one.",
            fix="Send the whole file: `curl -T FILE URL` without -C.",
        )
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType(
            f"Content-Encoding {headers['content-encoding']!r} is not accepted.",
            fix="Send the file as it is; what is inside may be compressed.",
        )
    boundary = _boundary(headers.get("content-type", ""))
    length = _length(headers)
    limit = max_bytes if boundary is None else max_bytes + FORM_OVERHEAD
    if length is not None and length > limit:
        raise too_large(max_bytes, declared=length)
    if length == 0:
        raise empty_file("The request has no body.", "Send the file: `curl -T FILE URL`.")
    return Declaration(length=length, sha256=_digest(headers, sha256), boundary=boundary)


def agreed_digest(declared: Declaration, fields: Sequence[tuple[str, str]]) -> str | None:
    """The digest that a form's file must have, by the form's own field or by what came before."""
    digests = {_hexadecimal(value) for name, value in fields if name == "sha256"}
    if declared.sha256 is not None:
        digests.add(declared.sha256)
    if len(digests) > 1:
        raise _bad_digest("The request names more than one SHA-256.")
    return next(iter(digests), None)


def agreed_digests(
    declared: Declaration, fields: Sequence[tuple[str, str]], *, files: int
) -> list[str | None]:
    """`agreed_digest` of each of a form's files: with several, `sha256` comes once for each."""
    if files == 1:
        return [agreed_digest(declared, fields)]
    digests = [_hexadecimal(value) for name, value in fields if name == "sha256"]
    if declared.sha256 is not None or len(digests) not in {0, files}:
        raise _bad_digest(f"The form has {files} files, so it names as many SHA-256s or none.")
    return [*digests] or [None] * files


def too_large(max_bytes: int, *, declared: int | None = None) -> BodyTooLarge:
    what = "The body" if declared is None else f"The body of {declared} bytes"
    return BodyTooLarge(
        f"{what} is over this service's limit of {max_bytes} bytes.",
        fix="Send a smaller file (fewer cells, or without layers and uns), or ask the "
        "administrator to raise CELLGRAFT_MAX_UPLOAD_BYTES.",
        limit_bytes=max_bytes,
    )


def _boundary(content_type: str) -> bytes | None:
    kind = content_type.partition(";")[0].strip().lower()
    if kind in RAW_TYPES:
        return None
    if kind != "multipart/form-data":
        raise UnsupportedMediaType(
            f"Content-Type {kind!r} is not a file that this service takes.",
            fix="Send the bytes of the file as application/octet-stream, or a form with "
            "`curl -F file=@FILE`.",
        )
    found = re.search(r'boundary="?([^";,\s]{1,70})"?', content_type)
    if found is None:
        raise MalformedUpload(
            "The form's Content-Type names no boundary.",
            fix="Let the client write the header: `curl -F file=@FILE`, without -H Content-Type.",
        )
    return found.group(1).encode()


def _length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("content-length")
    # The server has refused malformed and contradictory lengths already.
    return int(text) if text is not None and text.isdecimal() else None


def _digest(headers: Mapping[str, str], sha256: str | None) -> str | None:
    """From `?sha256=hex` or RFC 9530's `Repr-Digest: sha-256=:base64:`; in a form, of the file."""
    if sha256 is not None:
        return _hexadecimal(sha256)
    given = headers.get("repr-digest")
    if given is None:
        return None
    found = re.search(r"(?:^|[,\s])sha-256=:([A-Za-z0-9+/=]+):", given)
    if found is None:
        raise _bad_digest("Repr-Digest holds no `sha-256=:BASE64:`.")
    try:
        digest = base64.b64decode(found.group(1), validate=True)
    except binascii.Error as error:
        raise _bad_digest("The digest in Repr-Digest is not base64.") from error
    if len(digest) != 32:
        raise _bad_digest("The digest in Repr-Digest is not 32 bytes long.")
    return digest.hex()


def _hexadecimal(sha256: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise _bad_digest("sha256 takes 64 hexadecimal digits.")
    return sha256.lower()


def _bad_digest(detail: str) -> MalformedUpload:
    return MalformedUpload(
        detail,
        fix='Send ?sha256="$(sha256sum FILE | cut -d" " -f1)", or leave it out; in a form of '
        "several files, a field sha256 for each, in their order.",
    )
