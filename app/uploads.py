"""Taking a file off the wire: every protocol ends in the one staging writer."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import anyio
from anyio import CapacityLimiter, to_thread

from app.declarations import Declaration
from app.forms import FormReader
from app.staging import StagedFile, StagingFile, check_space

WRITE_BYTES = 1024 * 1024
T = TypeVar("T")


@dataclass(frozen=True)
class Received:
    """A file that has arrived whole, and what its form said about it."""

    staged: StagedFile
    filename: str | None = None
    fields: list[tuple[str, str]] = field(default_factory=list)


class Uploads:
    """Takes files in. Disk and hashing run in threads of their own, never in the event loop."""

    def __init__(self, staging: Path, *, max_bytes: int, reserve_bytes: int) -> None:
        self.staging = staging
        self.max_bytes = max_bytes
        self.reserve_bytes = reserve_bytes
        self._limiter = CapacityLimiter(8)
        staging.mkdir(parents=True, exist_ok=True)

    async def receive(self, body: AsyncIterator[bytes], declared: Declaration) -> Received:
        """Write the body to the disk. However this ends without a result, no bytes are left."""
        coming = declared.length or 0
        await self._thread(
            functools.partial(check_space, self.staging, self.reserve_bytes, coming=coming)
        )
        file = await self._thread(
            functools.partial(
                StagingFile,
                self.staging,
                max_bytes=self.max_bytes,
                reserve_bytes=self.reserve_bytes,
            )
        )
        try:
            if declared.boundary is None:
                return Received(await self._take(file, body, declared.length, declared.sha256))
            form = FormReader(declared.boundary)
            staged = await self._take(file, _file_bytes(form, body), None, declared.sha256)
            return Received(staged, form.filename, form.fields)
        except BaseException:
            # Also when the client has gone away or the server is stopping.
            with anyio.CancelScope(shield=True):
                await self._thread(file.discard)
            raise

    async def _take(
        self,
        file: StagingFile,
        body: AsyncIterator[bytes],
        length: int | None,
        sha256: str | None,
    ) -> StagedFile:
        waiting: list[bytes] = []
        size = 0
        async for chunk in body:
            waiting.append(chunk)
            size += len(chunk)
            if size >= WRITE_BYTES:
                await self._thread(functools.partial(file.write, waiting))
                waiting, size = [], 0
        await self._thread(functools.partial(file.write, waiting))
        return await self._thread(functools.partial(file.finish, length=length, sha256=sha256))

    async def _thread(self, function: Callable[[], T]) -> T:
        return await to_thread.run_sync(function, limiter=self._limiter)


async def _file_bytes(form: FormReader, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in body:
        yield form.feed(chunk)
    form.finish()
