"""From settings to a parent that is ready to run."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.bell import Bell, open_bell
from app.database import Database
from app.settings import Settings
from app.storage import Storage, open_storage
from worker.child_process import ChildProcess
from worker.lanes import Timing
from worker.layers import find_layers, require
from worker.parent import Parent
from worker.workplace import Workplace
from worker.zygote_process import ZygoteProcess


@dataclass(frozen=True)
class Opened:
    """The opened parts of one worker."""

    database: Database
    storage: Storage
    staging: Path
    place: Workplace
    timing: Timing
    bell: Bell
    broker_url: str

    def parent(self, *, only: Collection[str] | None = None) -> Parent:
        return Parent(self.database, self.place, self.timing, bell=self.bell, only=only)

    @contextmanager
    def listening(self, parent: Parent) -> Iterator[None]:
        """Rings reach this parent, where there is a broker, until the `with` ends."""
        if not self.broker_url:
            yield
            return
        # Imported here because the embedded mode needs none of it, and starts faster without.
        from worker.listening import Listener

        listener = Listener(self.broker_url, parent.hear)
        listener.start()
        try:
            yield
        finally:
            listener.stop()
            self.bell.close()


def open_worker(settings: Settings) -> Opened:
    """Open the database, bring its tables up to date, and prepare the two processes.

    Raises:
        NoSandbox: the settings ask for a sandbox that this machine does not offer.
    """
    layers = require(find_layers(), settings.sandbox)
    database = Database(settings.database_url)
    database.migrate()
    storage = open_storage(
        settings.storage_url, cache=settings.cache_dir, cache_bytes=settings.cache_bytes
    )
    settings.staging_dir.mkdir(parents=True, exist_ok=True)
    place = Workplace(
        storage=storage,
        staging=settings.staging_dir,
        zygote=ZygoteProcess(layers=layers),
        child=ChildProcess(
            threads=settings.threads,
            warm_bytes=settings.warm_bytes,
            stall_seconds=settings.stall_seconds,
        ),
        threads=settings.threads,
        device=settings.device,
        intake_seconds=settings.intake_seconds,
        intake_memory_bytes=settings.intake_memory_bytes,
        disk_reserve_bytes=settings.disk_reserve_bytes,
        shard_cells=settings.shard_cells,
    )
    timing = Timing(
        lease_seconds=settings.lease_seconds,
        heartbeat_seconds=settings.heartbeat_seconds,
        poll_seconds=settings.poll_seconds,
        stall_seconds=settings.stall_seconds,
    )
    bell = open_bell(settings.broker_url)
    return Opened(database, storage, settings.staging_dir, place, timing, bell, settings.broker_url)
