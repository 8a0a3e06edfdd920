"""A pickle machine without powers: globals become inert, and nothing that a file names can run.

Python's unpickler looks up what a file names and calls it. This one looks up nothing: every
global is one of a few builders of plain data, written here, or an inert stand-in that swallows
whatever is done to it. Stand-ins are noted, and one that no saved model needs refuses the file.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import IO, Any, ClassVar

from worker.imports.arrays import BUILDERS as ARRAY_BUILDERS
from worker.imports.refusal import Refusal, unreadable
from worker.imports.tensors import BUILDERS as TENSOR_BUILDERS
from worker.imports.tensors import storage_kind

PersistentLoad = Callable[[Any], Any]

DATA_TYPES = frozenset(
    {"bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list"}
    | {"object", "set", "slice", "str", "tuple"}
)
"""Builtins that pickles name as mere markers, `dict` as the factory of a defaultdict for one."""

HARMLESS = (
    "pandas._libs.",
    "pandas.core.arrays",
    "pandas.core.dtypes",
    "pandas.core.frame",
    "pandas.core.indexes.",
    "pandas.core.internals",
    "pandas.core.series",
    "pandas.indexes.",
    "lightning.",
    "pytorch_lightning.",
    "pyro.distributions",
    "scvi.",
    "torch._C._nn.",
    "torch.distributions.",
    "torch.nn.",
)
"""Modules of classes that scvi-tools' own saves are known to name: training histories, options."""
HARMLESS_NAMES = frozenset(
    {
        ("copyreg", "_reconstructor"),
        ("numpy", "ndarray"),
        ("pathlib", "PosixPath"),
        ("torch", "Size"),
        ("torch", "device"),
        ("torch", "Generator"),
    }
)


class Inert:
    """Stands for whatever a file names and nobody needs. It takes every step and does nothing."""

    name: ClassVar[str] = ""

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        return None

    def __call__(self, *_: Any, **__: Any) -> Inert:
        return self

    def __setstate__(self, state: Any) -> None:
        return None

    def __setitem__(self, key: Any, value: Any) -> None:
        return None

    def append(self, value: Any) -> None:
        return None

    def extend(self, values: Any) -> None:
        return None

    def add(self, value: Any) -> None:
        return None


class Mapping_(dict[Any, Any]):
    """An ordered or a default dictionary: items are kept, its factory and attributes are not."""

    def __setstate__(self, state: Any) -> None:
        return None


class Builder:
    """One of our functions as a pickle sees it: callable, and nothing else can be done to it."""

    __slots__ = ("_build",)

    def __init__(self, build: Callable[..., Any]) -> None:
        self._build = build

    def __call__(self, *arguments: Any) -> Any:
        try:
            return self._build(*arguments)
        except Refusal:
            raise
        except Exception as error:
            raise unreadable(f"it builds something from arguments that do not fit ({error})") from (
                error
            )

    def __setstate__(self, state: Any) -> None:
        raise unreadable("it gives a state to a function")


def _ordered(*arguments: Any) -> Mapping_:
    return Mapping_(arguments[0]) if arguments and arguments[0] else Mapping_()


def _default(*_: Any) -> Mapping_:
    return Mapping_()


def _encode(text: Any, codec: Any) -> bytes:
    """How protocol 2 writes bytes: as text that is to be encoded again."""
    if not isinstance(text, str) or codec not in {"latin1", "latin-1"}:
        raise unreadable(f"it encodes with {str(codec)[:40]!r}")
    return text.encode("latin-1")


def _empty_bytes(*arguments: Any) -> bytes:
    if arguments:
        raise unreadable("it builds bytes in a way that no saved model does")
    return b""


def _members(*arguments: Any) -> list[Any]:
    if len(arguments) > 1 or not all(isinstance(each, list | tuple) for each in arguments):
        raise unreadable("it builds a list in a way that no saved model does")
    return list(arguments[0]) if arguments else []


def _slice(*arguments: Any) -> None:
    return None


BUILDERS: dict[tuple[str, str], Builder] = {
    ("collections", "OrderedDict"): Builder(_ordered),
    ("collections", "defaultdict"): Builder(_default),
    ("_codecs", "encode"): Builder(_encode),
    ("builtins", "bytes"): Builder(_empty_bytes),
    ("builtins", "list"): Builder(_members),
    ("builtins", "set"): Builder(_members),
    ("builtins", "tuple"): Builder(_members),
    ("builtins", "slice"): Builder(_slice),
    **{name: Builder(build) for name, build in ARRAY_BUILDERS.items()},
    **{name: Builder(build) for name, build in TENSOR_BUILDERS.items()},
}


class Machine(pickle.Unpickler):  # noqa: S301 - without what makes pickles dangerous: see above
    """Reads one pickle. `inert` names every global that was replaced by a stand-in."""

    def __init__(self, stream: IO[bytes], persistent: PersistentLoad | None) -> None:
        super().__init__(stream, encoding="utf-8")
        self.inert: dict[tuple[str, str], type[Inert]] = {}
        self._persistent = persistent

    def find_class(self, module: str, name: str) -> Any:
        """What stands for `module.name`. Looks up nothing, imports nothing."""
        module = {"__builtin__": "builtins"}.get(module, module)
        if (module, name) in BUILDERS:
            return BUILDERS[module, name]
        if kind := storage_kind(module, name):
            return kind
        shown = f"{module}.{name}"
        stand_in = self.inert.get((module, name))
        if stand_in is None:
            stand_in = self.inert[module, name] = type("Inert_", (Inert,), {"name": shown})
        return stand_in

    def persistent_load(self, identity: Any) -> Any:
        """A storage of the archive; anything else was never written by torch."""
        if self._persistent is None:
            raise unreadable("it refers to data outside itself, which this file never does")
        return self._persistent(identity)


def read_pickle(stream: IO[bytes], *, what: str, persistent: PersistentLoad | None = None) -> Any:
    """One pickle as plain data: numbers, text, bytes, lists, dictionaries, arrays, tensors.

    Raises:
        Refusal: the bytes are no pickle, or it names what no saved model needs.
    """
    machine = Machine(stream, persistent)
    failure: Exception | None = None
    value: Any = None
    try:
        value = machine.load()
    except (MemoryError, Refusal) as error:
        failure = error
    except Exception as error:  # noqa: BLE001 - damaged pickles raise almost any class
        said = " ".join(str(error).split())[:200]
        failure = unreadable(f"{what} is damaged or cut short: {type(error).__name__}: {said}")
    _refuse_powers(machine, what)  # first: it is the better reason
    if failure is not None:
        raise failure
    return value


def _refuse_powers(machine: Machine, what: str) -> None:
    powers = sorted({f"{module}.{name}" for module, name in machine.inert if _acts(module, name)})
    if powers:
        named = ", ".join(each[:80] for each in powers[:8])
        raise Refusal(
            "unsafe",
            f"{what} names {named}{' and more' if len(powers) > 8 else ''}: code that a saved "
            "model does not need. None of it was run.",
        )


def _acts(module: str, name: str) -> bool:
    """Whether a global is anything but a class of data that saves are known to name."""
    if (module, name) in HARMLESS_NAMES or (module == "builtins" and name in DATA_TYPES):
        return False
    plain = all(part.isidentifier() for part in [*module.split("."), name])
    return not (plain and f"{module}.".startswith(HARMLESS))
