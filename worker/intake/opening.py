"""Opening an upload: its kind is told from its first bytes, and its links are walked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py

from worker.intake.archives import Archive
from worker.intake.choice import Choice
from worker.intake.findings import Findings, reading
from worker.intake.kinds import recognise
from worker.intake.limits import Limits
from worker.intake.look import look
from worker.intake.market import MarketMatrix
from worker.intake.query_file import QueryFile
from worker.intake.samples import ROLES, UploadedFile
from worker.intake.signature import check_signature, refuse_user_block
from worker.intake.source import Source
from worker.intake.triples import find_triple, triple_of_parts
from worker.intake.unpacking import archive_kind


@dataclass(frozen=True)
class Opener:
    """How the files of this upload are opened, and within which limits."""

    choice: Choice
    limits: Limits

    @contextmanager
    def open(self, files: Sequence[UploadedFile], findings: Findings | None) -> Iterator[QueryFile]:
        """One sample. Its links are walked where there are findings to tell of them.

        Raises:
            Problem: nothing of it can be read.
        """
        path = files[0].path
        if len(files) == len(ROLES):
            yield MarketMatrix(triple_of_parts(files, self.limits), self.limits)
        elif archive_kind(path) is not None:
            refuse_user_block(path)
            archive = Archive(path, self.limits)
            yield MarketMatrix(find_triple(archive, findings or Findings()), self.limits)
        else:
            with self._hdf5(path, findings) as query:
                yield query

    @contextmanager
    def _hdf5(self, path: Path, findings: Findings | None) -> Iterator[QueryFile]:
        check_signature(path)
        with reading("/"):
            file = h5py.File(path, "r", locking=False)
        with file:
            if findings is not None:
                look(file, self.limits, findings)
            yield recognise(Source(file, self.limits), self.choice)
