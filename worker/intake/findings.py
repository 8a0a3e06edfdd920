"""What a check has to say: everything that it could find, each with a code and a way out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from app.findings import ERRORS, Finding, severity_of
from app.problems import Problem
from worker.names import readable

COPY_AGAIN = (
    "Check that the file opens with anndata.read_h5ad, write it again with write_h5ad, and "
    "upload that."
)
LISTED_PER_CODE = 20
FINDING_TEXTS = ("code", "pointer", "detail", "fix")


def located(code: str, pointer: str, detail: str, fix: str = COPY_AGAIN) -> Problem:
    """A problem that points at one place in the file; its code says which class answers."""
    finding = _finding(code, pointer, detail, fix)
    return ERRORS[code](finding.detail, fix=finding.fix, errors=[finding.as_dict()])


def _finding(code: str, pointer: str, detail: str, fix: str) -> Finding:
    return Finding(code, severity_of(code), readable(pointer), readable(detail), readable(fix))


class Findings:
    """All that is found in one file, in the order in which it was met, each thing once."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Finding] = {}
        self._seen: Counter[str] = Counter()

    def tell(self, code: str, pointer: str, detail: str, fix: str = COPY_AGAIN) -> None:
        """An error, a warning or a note, as the code says."""
        self._add(_finding(code, pointer, detail, fix))

    def _add(self, finding: Finding) -> None:
        key = finding.code, finding.pointer
        if key in self._found:
            return
        self._seen[finding.code] += 1
        if self._seen[finding.code] <= LISTED_PER_CODE:
            self._found[key] = finding

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Keep a problem for the report instead of stopping at it."""
        try:
            yield
        except Problem as problem:
            self.take(problem)

    def take(self, problem: Problem) -> None:
        """All that a located problem points at. Any other is raised: nothing can be told of it."""
        if not problem.errors:
            raise problem
        for error in problem.errors:
            self._add(_finding(**{key: error[key] for key in FINDING_TEXTS}))

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.every if finding.severity == "error"]

    @property
    def every(self) -> list[Finding]:
        """At most so many of each code, the last of which says how many more there are."""
        listed = list(self._found.values())
        for code, seen in self._seen.items():
            if seen > LISTED_PER_CODE:
                at = max(at for at, each in enumerate(listed) if each.code == code)
                more = f" ({seen - LISTED_PER_CODE:,} more like this are not listed.)"
                listed[at] = replace(listed[at], detail=listed[at].detail + more)
        return listed

    def as_dicts(self) -> list[dict[str, str]]:
        return [finding.as_dict() for finding in self.every]

    def problem(self) -> Problem | None:
        """The one problem that answers for all errors, as the first of them is classed."""
        errors = self.errors
        if not errors:
            return None
        first = errors[0]
        detail = first.detail
        if len(errors) > 1:
            detail += f" (One of {len(errors)} problems; see `errors`.)"
        return ERRORS[first.code](
            detail, fix=first.fix, errors=[finding.as_dict() for finding in errors]
        )


class PartFindings(Findings):
    """Of one of several files: told among those of all, with the number of the file."""

    def __init__(self, whole: Findings, number: int) -> None:
        super().__init__()
        self._whole, self._number = whole, number

    def _add(self, finding: Finding) -> None:
        super()._add(finding)
        pointer, detail = _place_in_part(finding.pointer, finding.detail, self._number)
        self._whole._add(replace(finding, pointer=pointer, detail=detail))


def placed(problem: Problem, number: int) -> Problem:
    """The same problem of one of several files, with its number. File names are not for telling:
    sentences are stored and read where names of files are nobody's business."""
    errors = []
    for error in problem.errors:
        pointer, detail = _place_in_part(error["pointer"], error["detail"], number)
        errors.append({**error, "pointer": pointer, "detail": detail})
    return type(problem)(f"Part {number}: {problem.detail}", fix=problem.fix, errors=errors)


def _place_in_part(pointer: str, detail: str, number: int) -> tuple[str, str]:
    return f"/parts/{number}{pointer.rstrip('/')}", f"Part {number}: {detail}"


@contextmanager
def reading(pointer: str) -> Iterator[None]:
    """Turn what the HDF5 library says about a damaged file into a problem at `pointer`."""
    try:
        yield
    except Problem:
        raise
    except MemoryError as error:
        raise too_large(pointer) from error
    except Exception as error:  # h5py raises almost any class on damaged bytes
        if "allocat" in str(error) and "memory" in str(error):
            raise too_large(pointer) from error
        said = " ".join(str(error).split())[:200]
        raise located(
            "damaged-file", pointer, f"{pointer} cannot be read; the HDF5 library says: {said}"
        ) from error


@contextmanager
def within_memory(pointer: str) -> Iterator[None]:
    """Running out of memory says something of one part of the file, and ends that part alone."""
    try:
        yield
    except MemoryError as error:
        raise too_large(pointer) from error


def too_large(pointer: str) -> Problem:
    return located(
        "out-of-memory",
        pointer,
        f"Reading {pointer} needs more memory than a check may use.",
        "Store the counts as a sparse matrix in chunks of ordinary size (write_h5ad does so), "
        "or upload the cells in several files.",
    )
