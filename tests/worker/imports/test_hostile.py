"""Saves that want to run code or to be larger than they are: refused, and nothing runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.problems import (
    FileTooLarge,
    Problem,
    UnreadableSave,
    UnsafeSave,
)
from worker.imports.archives import open_archive
from worker.imports.limits import SaveLimits
from worker.imports.reader import read_save_apart
from worker.imports.refusal import Refusal
from worker.imports.save import SaveFiles
from worker.imports.tensors import Storage, StorageKind, Tensor

from .hostile import ATTACKS, archive, inside_a_save
from .hostile import write as write_bytes
from .saves import Model, write

CONTROL = """
import io, json, pickle, sys
class Plain(pickle.Unpickler):
    def persistent_load(self, identity): return None
for attack in json.load(sys.stdin):
    try:
        Plain(io.BytesIO(bytes.fromhex(attack))).load()
    except Exception as error:
        print(error)
"""


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def refused(path: Path, tmp_path: Path, **parts: Path) -> Problem:
    limits = SaveLimits(seconds=60, nodes=200_000)
    with pytest.raises(Problem) as caught:
        read_save_apart(SaveFiles(path, **parts), tmp_path / "out", limits)
    return caught.value


@pytest.mark.parametrize("name", ATTACKS)
def test_code_in_a_save_is_refused_and_does_not_run(
    name: str, tmp_path: Path, canary: Path
) -> None:
    pickled = ATTACKS[name](f"touch {canary}")
    inside = write_bytes(tmp_path / "inside/model.pt", archive(inside_a_save(pickled)))
    problem = refused(inside, tmp_path)
    assert isinstance(problem, UnsafeSave), problem.detail
    assert "None of it was run" in problem.detail
    # Without the sandbox too: the reader alone is enough.
    alone = write_bytes(tmp_path / "alone/model.pt", archive(pickled))
    with pytest.raises(Refusal, match="names "), open_archive(alone, SaveLimits()):
        pass
    assert not canary.exists()


def test_the_plain_unpickler_would_have_run_them(tmp_path: Path) -> None:
    """The attacks bite: without this reader most of them leave their canary."""
    canaries = {name: tmp_path / f"canary-{n}" for n, name in enumerate(ATTACKS)}
    attacks = [ATTACKS[name](f"touch {canary}").hex() for name, canary in canaries.items()]
    subprocess.run(
        [sys.executable, "-c", CONTROL],
        input=json.dumps(attacks).encode(),
        capture_output=True,
        check=False,
        env={**os.environ, "BROWSER": "true", "PYTHONWARNINGS": "ignore"},
    )
    ran = [name for name, canary in canaries.items() if canary.exists()]
    assert len(ran) >= 15, ran


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "__setstate__ of a partial"])
def test_the_three_files_of_old_are_no_way_in(name: str, tmp_path: Path, canary: Path) -> None:
    pickled = ATTACKS[name](f"touch {canary}")
    folder = write(tmp_path / "save", Model(), "0.8.1")
    parts = {"var_names": folder / "var_names.csv", "attributes": folder / "attr.pkl"}
    sound = (folder / "attr.pkl").read_bytes()
    (folder / "attr.pkl").write_bytes(pickled)
    assert isinstance(refused(folder / "model_params.pt", tmp_path, **parts), UnsafeSave)
    (folder / "attr.pkl").write_bytes(sound)
    (folder / "model_params.pt").write_bytes(pickled)
    assert isinstance(refused(folder / "model_params.pt", tmp_path, **parts), UnsafeSave)
    assert not canary.exists()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return write(tmp_path / "sound", Model(), "1.4.2") / "model.pt"


@pytest.mark.parametrize("share", [0.0, 0.001, 0.2, 0.5, 0.9, 0.999])
def test_a_truncated_file(saved: Path, share: float, tmp_path: Path) -> None:
    data = saved.read_bytes()
    cut = write_bytes(tmp_path / "model.pt", data[: int(share * len(data))])
    assert isinstance(refused(cut, tmp_path), UnreadableSave)


def test_a_truncated_file_of_old(tmp_path: Path) -> None:
    folder = write(tmp_path / "save", Model(), "0.8.1")
    parts = {"var_names": folder / "var_names.csv", "attributes": folder / "attr.pkl"}
    data = (folder / "model_params.pt").read_bytes()
    for share in (0.01, 0.3, 0.6, 0.95):
        (folder / "model_params.pt").write_bytes(data[: int(share * len(data))])
        problem = refused(folder / "model_params.pt", tmp_path, **parts)
        assert isinstance(problem, UnreadableSave | FileTooLarge)


def tensor_pickle(numel: int, size: tuple[int, ...], stride: tuple[int, ...], key: str) -> bytes:
    """`{"model_state_dict": {"px_r": tensor}, ...}` whose numbers may be anything."""
    storage = (
        b"("
        + b"".join(
            [
                pickle.dumps("storage", 2)[2:-1],
                b"ctorch\nFloatStorage\n",
                pickle.dumps(key, 2)[2:-1],
                pickle.dumps("cpu", 2)[2:-1],
                pickle.dumps(numel, 2)[2:-1],
            ]
        )
        + b"tQ"
    )
    rest = b"".join(pickle.dumps(each, 2)[2:-1] for each in (0, size, stride, False, None))
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + rest + b"tR"
    state = pickle.dumps("model_state_dict", 2)[2:-1] + b"}(" + pickle.dumps("px_r", 2)[2:-1]
    others = pickle.dumps("attr_dict", 2)[2:-1] + b"}" + pickle.dumps("var_names", 2)[2:-1] + b"]"
    return b"\x80\x02}(" + state + tensor + b"u" + others + b"u."


TEN_GB = 2_500_000_000

DECLARED = {
    "a storage of 10 GB": (tensor_pickle(TEN_GB, (TEN_GB,), (1,), "0"), "10,000,000,000 bytes"),
    "a view of 10 GB": (tensor_pickle(4, (TEN_GB,), (1,), "0"), "storage of 4 numbers"),
    "one number seen 10 GB times": (tensor_pickle(4, (TEN_GB,), (0,), "0"), "storage of 4 numbers"),
    "a view beyond its storage": (tensor_pickle(4, (2, 2), (3, 1), "0"), "storage of 4 numbers"),
    "a negative stride": (tensor_pickle(4, (2,), (-1,), "0"), "no shape"),
    "a path for a key": (tensor_pickle(4, (4,), (1,), "../0"), "a name that torch never gives"),
    "numbers that are not there": (tensor_pickle(4, (4,), (1,), "7"), "lacks the numbers"),
}


@pytest.mark.parametrize("name", DECLARED)
def test_tensors_that_declare_what_they_do_not_hold(name: str, tmp_path: Path) -> None:
    pickled, reason = DECLARED[name]
    path = write_bytes(tmp_path / "model.pt", archive(pickled, data__0=bytes(16)))
    problem = refused(path, tmp_path)
    assert isinstance(problem, FileTooLarge | UnreadableSave)
    assert reason in problem.detail


def test_a_record_that_declares_more_than_it_holds(tmp_path: Path) -> None:
    """Sizes that add up to the file, and a checksum that fits the few bytes that are there."""
    data = io.BytesIO(archive(tensor_pickle(25_000, (25_000,), (1,), "0"), data__0=bytes(16)))
    with zipfile.ZipFile(data, "a") as file:
        file.writestr("archive/data/pad", bytes(100_000))
        file.filelist.remove(file.getinfo("archive/data/pad"))
        file.getinfo("archive/data/0").file_size = 100_000
    path = write_bytes(tmp_path / "model.pt", data.getvalue())
    with zipfile.ZipFile(path) as file:
        assert len(file.read("archive/data/0")) == 16  # and no error
    problem = refused(path, tmp_path)
    assert isinstance(problem, FileTooLarge)
    assert "a record of 100,000 bytes, of which model.pt holds 16" in problem.detail


@pytest.mark.parametrize("n_bytes", [0, 12, 20])
def test_a_storage_that_gives_other_than_it_declares_is_not_viewed(n_bytes: int) -> None:
    storage = Storage("0", StorageKind("<f4"), 4)
    tensor = Tensor(storage, 0, (4,), (1,))
    assert tensor.read(lambda _: bytes(16)).tolist() == [0.0] * 4
    with pytest.raises(Refusal, match=f"16 bytes, of which {n_bytes} are there"):
        tensor.read(lambda _: bytes(n_bytes))


def test_the_same_in_the_format_of_old(saved: Path, tmp_path: Path) -> None:
    head = b"".join(
        pickle.dumps(each, 2)
        for each in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "type_sizes": {}})
    )
    body = tensor_pickle(TEN_GB, (TEN_GB,), (1,), "0") + pickle.dumps(["0"], 2)
    path = write_bytes(tmp_path / "model.pt", head + body + struct.pack("<q", TEN_GB) + bytes(64))
    problem = refused(path, tmp_path)
    assert isinstance(problem, FileTooLarge)
    assert "10,000,000,000 bytes" in problem.detail


def test_a_zip_bomb(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        file.writestr("archive/data.pkl", b"N" * 300_000_000 + b".")
    path = write_bytes(tmp_path / "model.pt", packed.getvalue())
    assert path.stat().st_size < 1_000_000
    problem = refused(path, tmp_path)
    assert isinstance(problem, FileTooLarge)
    assert "packs" in problem.detail


def test_records_that_lie_over_each_other(tmp_path: Path) -> None:
    """Many records that are all the same bytes: each is small, together they are a bomb."""
    one = archive(b"\x80\x02N.", data__0=bytes(100_000))
    with zipfile.ZipFile(io.BytesIO(one)) as file:
        entry = file.getinfo("archive/data/0")
        central = one[file.start_dir :]
    start = one.index(b"PK\x01\x02", one.index(b"PK\x01\x02"))
    at = central.rindex(b"PK\x01\x02")
    record, end = (
        central[at : central.rindex(b"PK\x05\x06")],
        central[central.rindex(b"PK\x05\x06") :],
    )
    many = central[:at] + record * 200
    count = 4 + 200 - 1
    tail = end[:8] + struct.pack("<HHI", count, count, len(many)) + end[16:]
    path = write_bytes(tmp_path / "model.pt", one[:start] + many + tail)
    assert entry.file_size == 100_000
    problem = refused(path, tmp_path)
    assert isinstance(problem, FileTooLarge)
    assert "declares records of" in problem.detail


ODD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "damaged"),
    "a text": (b"hello, this is no model at all\n" * 10, "damaged"),
    "a zip of something else": (archive(b"\x80\x02N.", root="a/b"), "not one that torch.save"),
    "TorchScript": (
        archive(b"\x80\x02N.", constants__pkl=b"").replace(b"/pkl", b".pkl"),
        "torch.save",
    ),
    "the other byte order": (
        archive(b"\x80\x02N.").replace(b"little", b"bigbig"),
        "cut short",  # the record's checksum fails first
    ),
    "a plain value": (archive(b"\x80\x02K\x07."), "model_state_dict and attr_dict"),
    "no weights": (
        archive(pickle.dumps({"model_state_dict": 3, "attr_dict": {}}, 2)),
        "no dictionary of tensors",
    ),
    "an extension registry": (archive(b"\x80\x02\x82\x01."), "damaged"),
    "a memo of terabytes": (archive(b"\x80\x02Nr\xff\xff\xff\xff."), ""),
    "a state for a function": (
        archive(b"\x80\x02ccollections\nOrderedDict\n}b."),
        "a state to a function",
    ),
    "another codec": (
        archive(b"\x80\x02c_codecs\nencode\n" + pickle.dumps(("x", "zip"), 2)[2:-1] + b"R."),
        "encodes with",
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_no_save(name: str, tmp_path: Path) -> None:
    data, reason = ODD[name]
    problem = refused(write_bytes(tmp_path / "model.pt", data), tmp_path)
    assert isinstance(problem, UnreadableSave | FileTooLarge)
    assert reason in problem.detail


def attribute(value: Any) -> bytes:
    told = {"model_state_dict": {}, "var_names": [], "attr_dict": {"registry_": value}}
    return archive(pickle.dumps(told, 2))


class Anything:
    """A class of the test's own, as an element of an array."""


def test_arrays_hold_plain_elements_alone(tmp_path: Path) -> None:
    array = np.array([{"a": 1}, [2]], dtype=object)
    path = write_bytes(tmp_path / "model.pt", attribute(array))
    problem = refused(path, tmp_path)
    assert isinstance(problem, UnreadableSave)
    assert "an array with a dict in it" in problem.detail


def test_a_million_laughs(tmp_path: Path) -> None:
    """A few hundred bytes that, written out, would be a list of 10^12 elements."""
    laughs: Any = ["ha"] * 10
    for _ in range(11):
        laughs = [laughs] * 10
    path = write_bytes(tmp_path / "model.pt", attribute(laughs))
    assert path.stat().st_size < 10_000
    assert isinstance(refused(path, tmp_path), FileTooLarge)


def test_a_list_inside_itself(tmp_path: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    path = write_bytes(tmp_path / "model.pt", attribute(endless))
    assert isinstance(refused(path, tmp_path), FileTooLarge)


def test_a_class_of_ours_is_named_and_refused(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "model.pt", attribute(Anything()))
    problem = refused(path, tmp_path)
    assert isinstance(problem, UnsafeSave)
    assert "Anything" in problem.detail
