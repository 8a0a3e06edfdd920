"""The connection to an S3-compatible store: its URL, its patience, and what its errors mean."""

from __future__ import annotations

import errno
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from obstore.exceptions import BaseError, NotFoundError
from obstore.store import S3Store

from app.problems import StorageAway

if TYPE_CHECKING:
    from obstore.store import S3Config

log = logging.getLogger("cellgraft.storage")

OPTIONS = frozenset({"endpoint", "region", "addressing"})
FULL = re.compile(
    r"status code: 507\b|<Code>\w*(?:StorageFull|QuotaExceeded|InsufficientCapacity)\w*</Code>"
)
"""In an error's text: what the answer says, never a key, an address or a time beside it."""
AGAIN_SECONDS = 10
PAUSE_SECONDS = 0.2
T = TypeVar("T")


@dataclass(frozen=True)
class S3Place:
    """What `s3://bucket/prefix?endpoint=...&region=...&addressing=path|virtual` says.

    What it leaves out, the standard AWS_* variables say; credentials come from there alone.
    """

    bucket: str
    prefix: str
    endpoint: str | None
    region: str | None
    virtual: bool

    @classmethod
    def parse(cls, url: str) -> S3Place:
        """Raises ValueError, with what is wrong, when the URL is not understood."""
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query))
        unknown = sorted(options.keys() - OPTIONS)
        if not parts.netloc or unknown:
            raise ValueError(
                f"storage URL {url!r} is not understood: "
                + (f"there is no option {unknown[0]!r}" if unknown else "it names no bucket")
                + "; use s3://bucket/prefix?endpoint=https://host:9000&region=eu-central-1"
            )
        return cls(
            bucket=parts.netloc,
            prefix=unquote(parts.path).strip("/"),
            endpoint=options.get("endpoint"),
            region=options.get("region"),
            virtual=options.get("addressing", "path") == "virtual",
        )


@dataclass(frozen=True)
class Patience:
    """How long one request may be silent or take, and for how long a failing one is sent again."""

    silent_seconds: float = 30.0
    request_seconds: float = 120.0
    retry_seconds: float = 20.0
    retries: int = 5


HASTE = Patience(silent_seconds=8.0, request_seconds=8.0, retry_seconds=0.0, retries=0)
"""For what somebody waits for, and what can be done later or need not be done."""


def connect(place: S3Place, patience: Patience) -> S3Store:
    """Sends nothing yet."""
    given: S3Config = {}
    if place.endpoint is not None:
        given["endpoint"] = place.endpoint
    if place.region is not None:
        given["region"] = place.region
    return S3Store(
        place.bucket,
        config=given,
        virtual_hosted_style_request=place.virtual,
        client_options={
            "allow_http": (place.endpoint or "").startswith("http://"),
            "connect_timeout": timedelta(seconds=min(5.0, patience.silent_seconds)),
            "read_timeout": timedelta(seconds=patience.silent_seconds),
            "timeout": timedelta(seconds=patience.request_seconds),
        },
        retry_config={
            "max_retries": patience.retries,
            "retry_timeout": timedelta(seconds=patience.retry_seconds),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=5),
                "base": 2,
            },
        },
    )


def ask(key: str, patience: Patience, request: Callable[[], T]) -> T:
    """What the request gives; it must be safe to repeat.

    The library sends a request again that was refused, or not answered. It does not when the
    answer's body breaks off, so the request is begun anew here, within the same time.

    Raises:
        FileNotFoundError: there is no such key.
        StorageAway: the store does not do as asked, for whatever other reason.
    """
    began = time.monotonic()
    for left in reversed(range(patience.retries + 1)):
        try:
            with errors_told(key):
                return request()
        except StorageAway:
            if not left or time.monotonic() - began > patience.retry_seconds:
                raise
            time.sleep(PAUSE_SECONDS)
    raise AssertionError("the last try returns or raises")


@contextmanager
def errors_told(key: str) -> Iterator[None]:
    """The library's errors as ours."""
    try:
        yield
    except (FileNotFoundError, NotFoundError) as error:
        if "NoSuchBucket" in str(error):
            raise _away(error) from error
        raise FileNotFoundError(errno.ENOENT, "not in the store", key) from error
    except BaseError as error:
        raise _away(error) from error


def _away(error: Exception) -> StorageAway:
    said = str(error)
    log.error("the file store did not do as asked: %s", said.partition("\n")[0])
    problem = StorageAway(
        "The file store has no space left; nothing was recorded."
        if FULL.search(said)
        else "The file store did not answer as it should; nothing was recorded.",
        fix="Send the request again in a little while; if it goes on, tell the administrator.",
    )
    problem.headers["Retry-After"] = str(AGAIN_SECONDS)
    return problem
