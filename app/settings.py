"""Every setting of the service, read from `CELLGRAFT_*` by the entry points alone."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

GIB = 1024**3
POLL_BESIDE_BELL_SECONDS = 5.0


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CELLGRAFT_", env_ignore_empty=True)

    data_dir: Path = Path("data")
    host: str = "127.0.0.1"
    port: int = Field(default=8000, gt=0, lt=65536)
    database_url: str = ""
    """Empty: an SQLite file in the data folder."""
    broker_url: str = ""
    """Where workers are told of new jobs, as redis://host:6379/0. Empty: they poll."""
    storage_url: str = ""
    """Empty: the folder `store` in the data folder."""
    s3_endpoint: str = ""
    """Where an s3:// storage URL that names no endpoint leads; empty: Amazon's."""
    cache_bytes: int = Field(default=50 * GIB, gt=0)
    """Local copies of files of an S3-compatible store; the longest unused go first."""
    max_upload_bytes: int = Field(default=20 * GIB, gt=0)
    disk_reserve_bytes: int = Field(default=1 * GIB, ge=0)
    """Kept free for the database and for results; uploads are refused below it."""
    upload_idle_seconds: float = Field(default=60.0, gt=0)
    """An upload that stands still for so long is given up."""
    obs_policy: Literal["needed", "all"] = "all"
    """Which obs columns of an upload are kept, where its caller does not say."""
    allow_unauthenticated: bool = False
    """Serve without keys on an address that other machines reach."""
    threads: int = Field(default=2, gt=0)
    device: str = "auto"
    warm_bytes: int = Field(default=1 * GIB, ge=0)
    """What the references that a worker keeps loaded may take; those unused longest go first."""
    lease_seconds: float = Field(default=30.0, gt=0)
    heartbeat_seconds: float = Field(default=5.0, gt=0)
    poll_seconds: float = Field(default=0.1, gt=0)
    """With a broker 5 unless set: then the bell wakes workers, and polling finds what it lost."""
    stall_seconds: float = Field(default=1800.0, gt=0)
    """A job that does not move on for so long is taken from its worker."""
    max_attempts: int = Field(default=3, gt=0)
    shard_cells: int = Field(default=262_144, gt=0)
    """A query of more cells is read by several workers, in shards of about so many."""
    intake_seconds: float = Field(default=600.0, gt=0)
    intake_memory_bytes: int = Field(default=4 * GIB, gt=0)
    sandbox: Literal["auto", "strict"] = "auto"
    """What a worker does without Landlock and bubblewrap: warn, or refuse to start."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="after")
    def _fill_in_places(self) -> Self:
        # Absolute, because the children of `cellgraft serve` must agree on one place.
        self.data_dir = self.data_dir.expanduser().absolute()
        self.database_url = self.database_url or self._own_places[0]
        self.storage_url = self.storage_url or self._own_places[1]
        if self.s3_endpoint and self.storage_url.startswith("s3://"):
            self.storage_url = _with_endpoint(self.storage_url, self.s3_endpoint)
        if self.broker_url and "poll_seconds" not in self.model_fields_set:
            self.poll_seconds = POLL_BESIDE_BELL_SECONDS
        return self

    @property
    def is_shared(self) -> bool:
        """Whether processes with other data folders may use the same database and store."""
        return (self.database_url, self.storage_url) != self._own_places

    @property
    def _own_places(self) -> tuple[str, str]:
        """The database and the store of a data folder that has its own."""
        return f"sqlite:///{self.data_dir / 'cellgraft.db'}", (self.data_dir / "store").as_uri()

    @property
    def staging_dir(self) -> Path:
        """Uploads in progress and scratch: on the store's file system, to publish by rename."""
        return self.data_dir / "staging"

    @property
    def cache_dir(self) -> Path:
        """Local copies of what an S3-compatible store holds, and notes of what it is to lose."""
        return self.data_dir / "cache"


def _with_endpoint(url: str, endpoint: str) -> str:
    parts = urlsplit(url)
    options = {"endpoint": endpoint} | dict(parse_qsl(parts.query))
    return urlunsplit(parts._replace(query=urlencode(options)))
