"""Taking a file off the wire: every protocol ends in the one staging writer."""

from __future__ import annotations

import functools
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from typing import TypeVar

import anyio
from anyio import CapacityLimiter, to_thread

from app.declarations import Declaration, agreed_digest
from app.forms import FormReader
from app.problems import UploadStalled
from app.staging import StagedFile, StagingFile, check_space, sweep_staging

log = logging.getLogger("cellgraft.api")

WRITE_BYTES = 1024 * 1024
FIRST_SWEEP_SECONDS = 65
"""The sweep at the start spares files younger than a minute: these are old enough now."""
SWEEP_SECONDS = 300
T = TypeVar("T")


@dataclass(frozen=True)
class Received:
    """A file that has arrived whole, and what its form said about it."""

    staged: StagedFile
    filename: str | None = None
    fields: list[tuple[str, str]] = field(default_factory=list)


class Uploads:
    """Takes files in. Disk and hashing run in threads of their own, never in the event loop."""

    def __init__(
        self, staging: Path, *, max_bytes: int, reserve_bytes: int, idle_seconds: float
    ) -> None:
        self.staging = staging
        self.max_bytes = max_bytes
        self.reserve_bytes = reserve_bytes
        self.idle_seconds = idle_seconds
        self._limiter = CapacityLimiter(8)
        self._keepers = CapacityLimiter(4)
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
            chunks = self._in_time(body)
            if declared.boundary is None:
                await self._write(file, chunks)
                return Received(await self._finish(file, declared.length, declared.sha256))
            form = FormReader(declared.boundary)
            await self._write(file, _file_bytes(form, chunks))
            sha256 = agreed_digest(declared, form.fields)
            staged = await self._finish(file, None, sha256)
            return Received(staged, form.filename, form.fields)
        except BaseException:
            # Also when the client has gone away or the server is stopping.
            with anyio.CancelScope(shield=True):
                await self._thread(file.discard)
            raise

    async def keep(self, publish: Callable[[], T]) -> T:
        """Run what stores a received file and records it, in a thread.

        Few at once: each holds parts of its file in memory, and waits while the store is away.
        """
        return await to_thread.run_sync(publish, limiter=self._keepers)

    async def sweep_for_ever(self) -> None:
        """Remove what uploads of killed processes left, now and then."""
        for seconds in chain([0, FIRST_SWEEP_SECONDS], repeat(SWEEP_SECONDS)):
            await anyio.sleep(seconds)
            swept = await to_thread.run_sync(sweep_staging, self.staging)
            if swept:
                log.info("removed %d unfinished uploads", swept)

    async def _in_time(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The body, unless the client falls silent: then its file would be held for ever."""
        while True:
            try:
                with anyio.fail_after(self.idle_seconds):
                    chunk = await anext(body)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                raise _stalled(self.idle_seconds) from error
            yield chunk

    async def _write(self, file: StagingFile, body: AsyncIterator[bytes]) -> None:
        waiting: list[bytes] = []
        size = 0
        async for chunk in body:
            waiting.append(chunk)
            size += len(chunk)
            if size >= WRITE_BYTES:
                await self._thread(functools.partial(file.write, waiting))
                waiting, size = [], 0
        await self._thread(functools.partial(file.write, waiting))

    async def _finish(
        self, file: StagingFile, length: int | None, sha256: str | None
    ) -> StagedFile:
        return await self._thread(functools.partial(file.finish, length=length, sha256=sha256))

    async def _thread(self, function: Callable[[], T]) -> T:
        return await to_thread.run_sync(function, limiter=self._limiter)


def _stalled(seconds: float) -> UploadStalled:
    return UploadStalled(
        f"No byte arrived for {seconds:g} seconds; nothing was kept.", fix="Send the file again."
    )


async def _file_bytes(form: FormReader, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in body:
        yield form.feed(chunk)
    form.finish()
