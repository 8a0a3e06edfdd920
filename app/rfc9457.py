"""What every expected failure is: a problem with a stable type and a way out (RFC 9457)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

Fault = Literal["data", "service"]

_REGISTRY: dict[str, type[Problem]] = {}
_OWN_FIELDS = frozenset({"type", "title", "status", "detail", "fix", "fault", "errors"})


class Problem(Exception):
    """An expected failure. `type` is the class name in kebab-case: part of the API, never renamed.

    `fault` says whose move is next: `data`: correct the request and send it again; `service`:
    nothing is wrong with the request, and sending it again is safe.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong."
    fault: ClassVar[Fault] = "data"
    type: ClassVar[str] = "problem"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.type = re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()
        _REGISTRY[cls.type] = cls

    def __init__(
        self,
        detail: str,
        *,
        fix: str,
        errors: Sequence[Mapping[str, str]] = (),
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fix = fix
        self.errors = [dict(error) for error in errors]
        self.extra = extra
        self.headers: dict[str, str] = {}
        self.inspection: dict[str, Any] | None = None
        """What was found of the file all the same: kept with the query, not part of the answer."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "fix": self.fix,
            "fault": self.fault,
            "errors": self.errors,
            **{key: value for key, value in self.extra.items() if key not in _OWN_FIELDS},
        }

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> Problem:
        """The problem that `as_dict` described; a type nobody knows becomes an InternalFault."""
        import app.problems  # noqa: F401 - a process that reads problems may not have raised any

        kind = _REGISTRY.get(str(stored.get("type")), _REGISTRY["internal-fault"])
        return kind(
            str(stored.get("detail", "The cause was not recorded.")),
            fix=str(stored.get("fix", "Send the request again.")),
            errors=stored.get("errors") or (),
            **{key: value for key, value in stored.items() if key not in _OWN_FIELDS},
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Problems cross process boundaries; the default would call the class without `fix`.
        return Problem.from_dict, (self.as_dict(),)


def every_problem() -> list[type[Problem]]:
    return [_REGISTRY[name] for name in sorted(_REGISTRY)]
