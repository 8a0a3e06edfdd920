"""Files that must be refused, by class; `CORPUS` holds every one."""

from . import bombs, damage, links, pointers, storage, tables, values
from .registry import CORPUS, BadFile

__all__ = [
    "CORPUS",
    "BadFile",
    "bombs",
    "damage",
    "links",
    "pointers",
    "storage",
    "tables",
    "values",
]
