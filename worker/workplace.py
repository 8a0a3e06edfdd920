"""What an attempt works with: the store, the scratch folders, the two processes, the limits."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.jobs import Claim
from app.problems import DiskFull
from app.storage import Storage
from models_store.digests import file_sha256
from worker.child_process import ChildProcess
from worker.intake.limits import Limits
from worker.zygote_process import ZygoteProcess

MEDIA_TYPES = {
    ".parquet": "application/vnd.apache.parquet",
    ".csv": "text/csv",
    ".npy": "application/x-npy",
    ".h5ad": "application/x-hdf5",
    ".json": "application/json",
    ".safetensors": "application/x-safetensors",
    ".html": "text/html; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
}


@dataclass(frozen=True)
class Workplace:
    storage: Storage
    staging: Path
    zygote: ZygoteProcess
    child: ChildProcess
    threads: int = 2
    device: str = "auto"
    intake_seconds: float = 600.0
    intake_memory_bytes: int = Limits.memory_bytes
    disk_reserve_bytes: int = 0
    shard_cells: int = 262_144
    """Queries of more cells are read in shards of about so many, by whichever workers are free."""
    patience_seconds: float = 300.0
    """How long an attempt waits for a store that is away before the job goes back to the queue."""

    def scratch(self, claim: Claim) -> Path:
        """The attempt's own folder, on the store's file system, so that publishing is a rename."""
        return self.staging / f"{claim.job_id}-{claim.attempt}"

    def new_scratch(self, claim: Claim) -> Path:
        """The attempt's folder, made. Raises DiskFull: better now than after an hour's work."""
        self.free_bytes()
        scratch = self.scratch(claim)
        scratch.mkdir(parents=True)
        return scratch

    def free_bytes(self) -> int:
        """Disk space that one attempt may fill. Raises DiskFull when there is none."""
        free = shutil.disk_usage(self.staging).free - self.disk_reserve_bytes
        if free <= 0:
            raise disk_full()
        return free

    def intake_limits(self) -> Limits:
        """Of one check. Raises DiskFull."""
        return Limits(
            memory_bytes=self.intake_memory_bytes,
            cpu_seconds=int(self.intake_seconds) + 1,
            output_bytes=self.free_bytes(),
        )


def disk_full() -> DiskFull:
    return DiskFull(
        "The server's disk is full.",
        fix="Free disk space on the server, then send the request again; nothing was lost.",
    )


def describe_files(folder: Path) -> list[dict[str, Any]]:
    """Name, size, SHA-256 and media type of every result."""
    return [
        {
            "name": path.name,
            "bytes": path.stat().st_size,
            "sha256": file_sha256(path),
            "media_type": MEDIA_TYPES.get(path.suffix, "application/octet-stream"),
        }
        for path in sorted(folder.iterdir())
        if path.is_file()
    ]
