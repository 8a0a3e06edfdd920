"""What the routes work with: the opened parts of one service, and plain limits."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from importlib.metadata import version

from app.bell import Bell, open_bell
from app.changes import Changes
from app.coverage import GeneBook
from app.database import Database
from app.settings import Settings
from app.storage import Storage, open_storage
from app.uploads import Uploads
from app.watcher import Watcher, revisions_of


@dataclass(frozen=True)
class Service:
    version: str
    database: Database
    storage: Storage
    bell: Bell
    uploads: Uploads
    genes: GeneBook
    watcher: Watcher
    max_attempts: int
    obs_policy: str
    """Which obs columns of an upload are kept, where its caller does not say."""
    open_to_this_machine: bool
    """Without keys, requests that name a loopback host are the local administrator's."""
    open_to_all: bool
    """Without keys, every request is the local administrator's."""


class UnsafeBinding(Exception):
    """The service would be open to everybody who can reach this machine."""


def open_service(settings: Settings) -> Service:
    database = Database(settings.database_url)
    storage = open_storage(
        settings.storage_url, cache=settings.cache_dir, cache_bytes=settings.cache_bytes
    )
    return Service(
        version=version("cellgraft"),
        database=database,
        storage=storage,
        bell=open_bell(settings.broker_url),
        uploads=Uploads(
            settings.staging_dir,
            max_bytes=settings.max_upload_bytes,
            reserve_bytes=settings.disk_reserve_bytes,
            idle_seconds=settings.upload_idle_seconds,
        ),
        genes=GeneBook(storage),
        watcher=Watcher(revisions_of(database), changes=Changes(database)),
        max_attempts=settings.max_attempts,
        obs_policy=settings.obs_policy,
        open_to_this_machine=is_loopback(settings.host),
        open_to_all=settings.allow_unauthenticated,
    )


def is_loopback(host: str) -> bool:
    """Whether a host name or address, as in a Host header without the port, is this machine's."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_of(header: str) -> str:
    """The host of a Host header or of an Origin, without scheme and port."""
    host = header.partition("://")[2] or header
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def check_binding(settings: Settings, *, has_keys: bool) -> None:
    """Refuse to be reachable from elsewhere without keys, unless that was asked for."""
    if has_keys or settings.allow_unauthenticated or is_loopback(settings.host):
        return
    raise UnsafeBinding(
        f"Refusing to serve on {settings.host} without API keys: everybody who reaches this "
        "machine could read and delete everything. Make a key first (`cellgraft keys create "
        "NAME --scope admin`), or set CELLGRAFT_ALLOW_UNAUTHENTICATED=1 if that is what you want."
    )
