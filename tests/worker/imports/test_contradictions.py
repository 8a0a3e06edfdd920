"""Saves whose parts contradict each other, and those that are of no kind that is supported."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.problems import InconsistentSave, UnsupportedSave

from .files import import_save
from .saves import Model, attributes


def changed(tmp_path: Path, change: Any) -> Path:
    """A save whose parts were changed before it was written."""
    model = Model()
    parts = {
        "model_state_dict": OrderedDict(model.state),
        "var_names": np.array([f"GENE{i}" for i in range(12)], dtype=object),
        "attr_dict": attributes(model, "1.4.2"),
    }
    change(parts)
    folder = tmp_path / "changed"
    folder.mkdir()
    torch.save(parts, folder / "model.pt")
    return folder


def _fields(parts: dict[str, Any]) -> Any:
    return parts["attr_dict"]["registry_"]["field_registries"]


def _more_batches(parts: dict[str, Any]) -> None:
    state = _fields(parts)["batch"]
    state["state_registry"]["categorical_mapping"] = np.array(["a", "b", "c"], dtype=object)
    state["summary_stats"]["n_batch"] = 3


CONTRADICTIONS: dict[str, tuple[Any, str]] = {
    "more batches than columns": (_more_batches, r"shape \(8, 14\).*ask for \(8, 15\)"),
    "fewer genes than columns": (
        lambda p: (
            p.update(var_names=p["var_names"][:-1]),
            _fields(p)["X"]["state_registry"].update(n_vars=11),
        ),
        "11 genes",
    ),
    "a gene count of another kind": (
        lambda p: _fields(p)["X"]["state_registry"].update(n_vars=99),
        "says that there are 99",
    ),
    "a gene twice": (lambda p: p["var_names"].__setitem__(0, "GENE1"), "lists a gene twice"),
    "a tensor missing": (lambda p: p["model_state_dict"].pop("px_r"), "lack `px_r`"),
    "a tensor too many": (
        lambda p: p["model_state_dict"].update(extra=torch.ones(2)),
        "has not: extra",
    ),
    "other hidden units": (
        lambda p: p["attr_dict"]["init_params_"]["non_kwargs"].update(n_hidden=16),
        r"ask for \(16, 14\)",
    ),
    "weights that are not finite": (
        lambda p: p["model_state_dict"]["px_r"].fill_(float("nan")),
        "not finite",
    ),
    "a batch count of another kind": (
        lambda p: _fields(p)["batch"]["summary_stats"].update(n_batch=5),
        "says that there are 5",
    ),
    "no registry": (lambda p: p["attr_dict"].pop("registry_"), "says nothing of the data"),
    "a registry without batches": (lambda p: _fields(p).pop("batch"), "incomplete"),
    "a registry without fields": (
        lambda p: p["attr_dict"]["registry_"].pop("field_registries"),
        "incomplete",
    ),
    "a field that is none": (lambda p: _fields(p).update(latent_qzm=[1]), "incomplete"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradictions_are_named(name: str, tmp_path: Path) -> None:
    change, reason = CONTRADICTIONS[name]
    with pytest.raises(InconsistentSave, match=reason):
        import_save(changed(tmp_path, change), tmp_path / "work")


def _option(name: str, value: Any) -> Any:
    return lambda p: p["attr_dict"]["init_params_"]["kwargs"]["model_kwargs"].update({name: value})


UNSUPPORTED: dict[str, tuple[Any, str]] = {
    "LinearSCVI": (
        lambda p: p["attr_dict"]["registry_"].update(model_name="LinearSCVI"),
        "it is a LinearSCVI model, and SCVI, SCANVI, .* are supported",
    ),
    "an embedded batch": (_option("batch_representation", "embedding"), "batch_representation"),
    "an activation of its own": (
        _option("var_activation", torch.nn.functional.softplus),
        "var_activation",
    ),
    "options of its encoder": (
        _option("extra_encoder_kwargs", {"activation_fn": torch.nn.LeakyReLU}),
        "extra_encoder_kwargs",
    ),
    "an option of the future": (_option("warp_drive", 7), "warp_drive='7'"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_is_not_supported_is_said_in_a_sentence(name: str, tmp_path: Path) -> None:
    change, reason = UNSUPPORTED[name]
    with pytest.raises(UnsupportedSave, match=reason):
        import_save(changed(tmp_path, change), tmp_path / "work")
