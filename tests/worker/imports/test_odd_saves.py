"""Saves that are damaged or unusual in ways that a reader could stumble over: a sentence each."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.problems import FileTooLarge, UnreadableSave, UnsupportedSave
from worker.imports.archives import open_archive
from worker.imports.limits import SaveLimits
from worker.imports.save import SaveFiles, read_save
from worker.imports.tensors import LastRead, Storage, StorageKind, Tensor

from .files import import_save
from .hostile import archive
from .hostile import write as write_bytes
from .saves import Model, attributes
from .test_contradictions import changed
from .test_hostile import refused, tensor_pickle

HUGE = 1 << 20_000
"""Over 4,300 digits: Python refuses to write it out."""


def saved(state: dict[Any, Any], **attribute: Any) -> bytes:
    told = {"model_state_dict": state, "var_names": [], "attr_dict": attribute}
    return archive(pickle.dumps(told, 2))


DAMAGED: dict[str, tuple[bytes, str]] = {
    "a key of many digits": (saved({}, registry_={HUGE: 1}), "more than 64 bits"),
    "a weight named by many digits": (saved({HUGE: 1}), "hold 'int', which is no tensor"),
    "a shape beyond numpy's": (
        archive(
            tensor_pickle(4, (0, 2**47, 2**47), (1, 1, 1), "0"),
            data__0=bytes(16),
        ),
        "do not fit",
    ),
    "a record under another name": (
        archive(pickle.dumps({}, 2)).replace(b"archive/data.pkl", b"archive/dat4.pkl", 1),
        "damaged or cut short",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_told_in_a_sentence(name: str, tmp_path: Path) -> None:
    data, reason = DAMAGED[name]
    problem = refused(write_bytes(tmp_path / "model.pt", data), tmp_path)
    assert isinstance(problem, UnreadableSave), problem.detail
    assert reason in problem.detail


@pytest.mark.parametrize("shape", [(2**40, 0), (2**40, 1, 0), (2**20, 2**20, 0)])
def test_arrays_without_a_width_are_refused_before_their_rows_are_made(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    path = write_bytes(tmp_path / "model.pt", saved({}, registry_=np.empty(shape)))
    problem = refused(path, tmp_path)
    assert isinstance(problem, FileTooLarge)
    assert "it says more of itself" in problem.detail


class Kept:
    """A sink that keeps what is written."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, name: str, data: Any) -> None:
        self.written += bytes(data)

    def progress(self, fraction: float) -> None:
        return None

    def restart(self) -> None:
        return None


def test_a_storage_is_read_once_for_all_its_views(tmp_path: Path) -> None:
    asked: list[str] = []

    def read(storage: Storage) -> bytes:
        asked.append(storage.key)
        return np.arange(4, dtype="<f4").tobytes()

    once, kind = LastRead(read), StorageKind("<f4")
    for key in ("0", "0", "0", "1", "1"):
        view = Tensor(Storage(key, kind, 4), 1, (2,), (1,))
        assert view.read(once).tolist() == [1.0, 2.0]
    assert asked == ["0", "1"]
    whole = torch.arange(6.0)
    state = {"c": whole[2:], "a": torch.ones(2), "b": whole[:3]}
    told = {"model_state_dict": state, "var_names": [], "attr_dict": {}}
    torch.save(told, tmp_path / "model.pt")
    sink = Kept()
    read_save(SaveFiles(tmp_path / "model.pt"), SaveLimits(), sink)
    with open_archive(tmp_path / "model.pt", SaveLimits()) as found:
        assert len({t.storage.key for t in found.value["model_state_dict"].values()}) == 2
    assert np.arange(2.0, 6.0, dtype="<f4").tobytes() in sink.written


def _gene_label(parts: dict[str, Any]) -> None:
    parts["attr_dict"]["init_params_"]["non_kwargs"]["dispersion"] = "gene-label"
    parts["attr_dict"]["registry_"]["setup_args"]["labels_key"] = None


def _log_normal_scanvi(parts: dict[str, Any]) -> None:
    model = Model(scanvi=True, options={"latent_distribution": "ln"})
    parts["attr_dict"], parts["model_state_dict"] = attributes(model, "1.4.2"), model.state


TOGETHER: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "dispersion by label without labels": (_gene_label, "without labels"),
    "SCANVI with a log-normal latent": (_log_normal_scanvi, "latent_distribution='ln'"),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_options_that_do_not_go_together_are_named(name: str, tmp_path: Path) -> None:
    change, reason = TOGETHER[name]
    with pytest.raises(UnsupportedSave, match=reason):
        import_save(changed(tmp_path, change), tmp_path / "work")


def test_the_library_prior_of_a_model_with_size_factors_is_passed_over(tmp_path: Path) -> None:
    def change(parts: dict[str, Any]) -> None:
        parts["attr_dict"]["registry_"]["setup_args"]["size_factor_key"] = "size"
        options = parts["attr_dict"]["init_params_"]["kwargs"]["model_kwargs"]
        options["use_observed_lib_size"] = False
        for name in ("library_log_means", "library_log_vars"):
            parts["model_state_dict"][name] = torch.ones(1, 2)

    manifest = import_save(changed(tmp_path, change), tmp_path / "work").manifest
    assert manifest.architecture.library == "size_factor"
    assert manifest.size_factor_key == "size"
