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

from app.declarations import Declaration, agreed_digests
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
    """A file that has arrived whole, or several, and what their form said about them.

    The sweeper spares them until `discard`, which removes what nobody took away.
    """

    files: list[StagingFile]
    staged: StagedFile
    filename: str | None = None
    others: list[tuple[StagedFile, str | None]] = field(default_factory=list)
    """Further files of the form, each with its name."""
    fields: list[tuple[str, str]] = field(default_factory=list)

    @property
    def paths(self) -> list[Path]:
        return [file.path for file in self.files]

    def discard(self) -> None:
        for file in self.files:
            file.discard()


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
        files: list[StagingFile] = []
        try:
            chunks = self._in_time(body)
            if declared.boundary is None:
                await self._write(files, _as_first(chunks))
                staged = await self._finish(files[0], declared.length, declared.sha256)
                return Received(files, staged)
            form = FormReader(declared.boundary)
            await self._write(files, _pieces(form, chunks))
            digests = agreed_digests(declared, form.fields, files=len(files))
            first, *others = [
                await self._finish(file, None, sha256, part=part if len(files) > 1 else None)
                for part, (file, sha256) in enumerate(zip(files, digests, strict=True), 1)
            ]
            named = list(zip(others, form.filenames[1:], strict=True))
            return Received(files, first, form.filenames[0], named, form.fields)
        except BaseException:
            # Also when the client has gone away or the server is stopping.
            with anyio.CancelScope(shield=True):
                for file in files:
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

    async def _write(
        self, files: list[StagingFile], pieces: AsyncIterator[tuple[int, bytes]]
    ) -> None:
        """Each file's pieces come together. All stay open, and so locked, until all are there."""
        waiting: list[bytes] = []
        size = 0
        async for number, piece in pieces:
            while number >= len(files):
                if files:
                    await self._thread(functools.partial(files[-1].write, waiting))
                    waiting, size = [], 0
                await self._add_file(files)
            waiting.append(piece)
            size += len(piece)
            if size >= WRITE_BYTES:
                await self._thread(functools.partial(files[-1].write, waiting))
                waiting, size = [], 0
        await self._thread(functools.partial(files[-1].write, waiting))

    async def _add_file(self, files: list[StagingFile]) -> None:
        """One more file; all together may have as many bytes as one."""
        left = self.max_bytes - sum(file.size for file in files)

        def add() -> None:
            file = StagingFile(
                self.staging,
                max_bytes=left,
                reserve_bytes=self.reserve_bytes,
                of_bytes=self.max_bytes,
            )
            files.append(file)

        await self._thread(add)

    async def _finish(
        self,
        file: StagingFile,
        length: int | None,
        sha256: str | None,
        part: int | None = None,
    ) -> StagedFile:
        finish = functools.partial(file.finish, length=length, sha256=sha256, part=part)
        return await self._thread(finish)

    async def _thread(self, function: Callable[[], T]) -> T:
        return await to_thread.run_sync(function, limiter=self._limiter)


def _stalled(seconds: float) -> UploadStalled:
    return UploadStalled(
        f"No byte arrived for {seconds:g} seconds; nothing was kept.", fix="Send the file again."
    )


async def _as_first(body: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    yield 0, b""
    async for chunk in body:
        yield 0, chunk


async def _pieces(form: FormReader, body: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    async for chunk in body:
        for piece in form.feed(chunk):
            yield piece
    form.finish()
    yield len(form.filenames) - 1, b""  # for a file without bytes
