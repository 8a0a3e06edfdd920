"""Saves in the layouts of scvi-tools 0.8 to 1.5, written here, and what their encoder computes.

The forward pass below is written out once more, in numpy, so that it can disagree with ours.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

GENES = tuple(f"GENE{i}" for i in range(12))
BATCHES, PLATES, LABELS = ("left", "right"), ("p0", "p1", "p2"), ("B cell", "T cell", "unknown")
N_HIDDEN, N_LATENT = 8, 3

State = dict[str, torch.Tensor]


@dataclass
class Model:
    """A model with random weights, and what it was made with."""

    batches: tuple[Any, ...] = BATCHES
    plates: tuple[str, ...] = ()
    n_continuous: int = 0
    encode_covariates: bool = True
    batch_norm: bool = False
    layer_norm: bool = True
    n_layers: int = 2
    scanvi: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self.state: State = OrderedDict()
        self.state["px_r"] = self._draw(len(GENES))
        widths = self.widths
        seen = widths if self.encode_covariates else []
        n_in = len(GENES) + (self.n_continuous if self.encode_covariates else 0)
        self._stack("z_encoder.encoder", n_in, seen, self.n_layers)
        self._heads("z_encoder", N_LATENT, "mean_encoder", "var_encoder")
        self._stack("l_encoder.encoder", n_in, seen, 1)
        self._heads("l_encoder", 1, "mean_encoder", "var_encoder")
        self._stack("decoder.px_decoder", N_LATENT + self.n_continuous, widths, self.n_layers)
        heads = ("px_scale_decoder.0", "px_r_decoder", "px_dropout_decoder")
        self._heads("decoder", len(GENES), *heads)
        if self.scanvi:
            self._labels(len(LABELS) - 1)

    @property
    def widths(self) -> list[int]:
        """Columns of each covariate: a lone category has none."""
        return [n for n in (len(self.batches), len(self.plates)) if n > 1]

    def _draw(self, *shape: int) -> torch.Tensor:
        return torch.from_numpy(self._rng.normal(0, 0.4, shape).astype(np.float32))

    def _stack(self, path: str, n_in: int, widths: list[int], n_layers: int) -> None:
        for i in range(n_layers):
            layer = f"{path}.fc_layers.Layer {i}"
            width = (n_in if i == 0 else N_HIDDEN) + sum(widths)
            self.state[f"{layer}.0.weight"] = self._draw(N_HIDDEN, width)
            self.state[f"{layer}.0.bias"] = self._draw(N_HIDDEN)
            if self.batch_norm:
                for name in ("weight", "bias", "running_mean"):
                    self.state[f"{layer}.1.{name}"] = self._draw(N_HIDDEN)
                self.state[f"{layer}.1.running_var"] = self._draw(N_HIDDEN) ** 2 + 0.5
                self.state[f"{layer}.1.num_batches_tracked"] = torch.tensor(7)

    def _heads(self, path: str, n_out: int, *names: str) -> None:
        for name in names:
            self.state[f"{path}.{name}.weight"] = self._draw(n_out, N_HIDDEN)
            self.state[f"{path}.{name}.bias"] = self._draw(n_out)

    def _labels(self, n_labels: int) -> None:
        self._stack("classifier.classifier.0", N_LATENT, [], self.n_layers)
        self._heads("classifier", n_labels, "classifier.1")
        self._stack("encoder_z2_z1.encoder", N_LATENT, [n_labels], self.n_layers)
        self._heads("encoder_z2_z1", N_LATENT, "mean_encoder", "var_encoder")
        self._stack("decoder_z1_z2.decoder", N_LATENT, [n_labels], self.n_layers)
        self._heads("decoder_z1_z2", N_LATENT, "mean_decoder", "var_decoder")
        self.state["y_prior"] = torch.full((1, n_labels), 1 / n_labels)

    @property
    def made_with(self) -> dict[str, Any]:
        both = {True: "both", False: "none"}
        return {
            "n_hidden": N_HIDDEN,
            "n_latent": N_LATENT,
            "n_layers": self.n_layers,
            "dropout_rate": 0.1,
            "dispersion": "gene",
            "gene_likelihood": "zinb",
            "latent_distribution": "normal",
            **self.options,
        } | {
            "model_kwargs": {
                "encode_covariates": self.encode_covariates,
                "use_batch_norm": both[self.batch_norm],
                "use_layer_norm": both[self.layer_norm],
            }
        }

    def encode(
        self, x: np.ndarray, batch: np.ndarray, plate: np.ndarray, continuous: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of each cell's posterior, in float64."""
        state = {name: t.double().numpy() for name, t in self.state.items()}
        h = np.log1p(x.astype(np.float64))
        if self.encode_covariates:
            h = np.concatenate([h, continuous], axis=1)
        seen = [
            np.eye(n)[c]
            for n, c in ((len(self.batches), batch), (len(self.plates), plate))
            if n > 1 and self.encode_covariates
        ]
        for i in range(self.n_layers):
            layer = f"z_encoder.encoder.fc_layers.Layer {i}"
            h = np.concatenate([h, *seen], axis=1)
            h = h @ state[f"{layer}.0.weight"].T + state[f"{layer}.0.bias"]
            if self.batch_norm:
                scale = state[f"{layer}.1.weight"] / np.sqrt(state[f"{layer}.1.running_var"] + 1e-3)
                h = (h - state[f"{layer}.1.running_mean"]) * scale + state[f"{layer}.1.bias"]
            if self.layer_norm:
                h = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-5)
            h = np.maximum(h, 0)
        mean = h @ state["z_encoder.mean_encoder.weight"].T + state["z_encoder.mean_encoder.bias"]
        raw = h @ state["z_encoder.var_encoder.weight"].T + state["z_encoder.var_encoder.bias"]
        return mean, np.exp(raw) + 1e-4


def _objects(values: Any) -> np.ndarray:
    found = np.empty(len(values), dtype=object)
    found[:] = list(values)
    return found


def registry(model: Model, version: str, *, cells: str = "n_obs") -> dict[str, Any]:
    """`registry_` as from 0.15 on."""
    setup = {
        "layer": None,
        "batch_key": "sample",
        "labels_key": "cell_type",
        "size_factor_key": None,
        "categorical_covariate_keys": ["plate"] if model.plates else None,
        "continuous_covariate_keys": [f"x{i}" for i in range(model.n_continuous)] or None,
    }
    labels: dict[str, Any] = {"categorical_mapping": _objects(LABELS), "original_key": "cell_type"}
    if model.scanvi:
        setup["unlabeled_category"] = labels["unlabeled_category"] = "unknown"
    fields: dict[str, Any] = defaultdict(dict)
    fields["X"] = _field({cells: 40, "n_vars": len(GENES)})
    fields["batch"] = _field(
        {"categorical_mapping": _objects(model.batches), "original_key": "sample"},
        n_batch=len(model.batches),
    )
    fields["labels"] = _field(labels, n_labels=len(LABELS))
    fields["size_factor"] = _field({})
    fields["extra_categorical_covs"] = _field(
        {
            "mappings": {"plate": _objects(model.plates)},
            "field_keys": ["plate"],
            "n_cats_per_key": [len(model.plates)],
        }
        if model.plates
        else {}
    )
    fields["extra_continuous_covs"] = _field(
        {"columns": _objects([f"x{i}" for i in range(model.n_continuous)])}
        if model.n_continuous
        else {}
    )
    return {
        "scvi_version": version,
        "model_name": "SCANVI" if model.scanvi else "SCVI",
        "setup_args": setup,
        "field_registries": fields,
        "_scvi_uuid": "0b3f",
    }


def _field(state: dict[str, Any], **statistics: int) -> dict[str, Any]:
    return {
        "data_registry": {"attr_name": "obs", "attr_key": "_scvi"},
        "state_registry": state,
        "summary_stats": statistics,
    }


def setup_dict(model: Model) -> dict[str, Any]:
    """`scvi_setup_dict_` of before 0.15."""
    found = {
        "scvi_version": "0.8.1",
        "categorical_mappings": {
            "_scvi_batch": {"original_key": "sample", "mapping": _objects(model.batches)},
            "_scvi_labels": {"original_key": "cell_type", "mapping": _objects(LABELS)},
        },
        "data_registry": {
            "X": {"attr_name": "X", "attr_key": "None"},
            "batch_indices": {"attr_name": "obs", "attr_key": "_scvi_batch"},
            "labels": {"attr_name": "obs", "attr_key": "_scvi_labels"},
        },
        "summary_stats": {
            "n_batch": len(model.batches),
            "n_cells": 40,
            "n_vars": len(GENES),
            "n_labels": len(LABELS),
        },
    }
    if model.plates:
        found["extra_categoricals"] = {
            "mappings": {"plate": _objects(model.plates)},
            "keys": ["plate"],
            "n_cats_per_key": [len(model.plates)],
        }
    return found


def attributes(model: Model, version: str) -> dict[str, Any]:
    made_with = dict(model.made_with)
    kwargs = {"model_kwargs": made_with.pop("model_kwargs")}
    history = pd.DataFrame({"elbo_train": [3.0, 2.0]}, index=pd.Index([0, 1], name="epoch"))
    found = {
        "registry_": registry(model, version),
        "init_params_": {"kwargs": kwargs, "non_kwargs": made_with},
        "is_trained_": True,
        "history_": {"elbo_train": history},
        "train_indices_": np.arange(30),
        "validation_indices_": np.arange(30, 40),
        "test_indices_": np.array([], dtype=np.int64),
    }
    if model.scanvi:
        found["unlabeled_category_"] = "unknown"
        found["labels_"] = _objects(["B cell"] * 40)
    return found


def write(folder: Path, model: Model, version: str, *, prefix: str = "") -> Path:
    """The save that this version of scvi-tools would leave; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) < (0, 15):
        return _write_three(folder, model, prefix)
    state: dict[str, Any] = OrderedDict(model.state)
    told = attributes(model, version)
    if (major, minor) < (0, 16):
        told["registry_"] = registry(model, version, cells="n_cells")
    if (major, minor) >= (0, 17):
        told["registry_"]["setup_method_name"] = "setup_anndata"
    if (major, minor) >= (1, 3):
        state["pyro_param_store"] = {"params": {}, "constraints": {}}
    if (major, minor) >= (1, 4):
        told["registry_"]["field_registries"]["X"]["state_registry"]["column_names"] = _objects(
            GENES
        )
        told["run_id_"] = told["run_name_"] = None
    saved = {"model_state_dict": state, "var_names": _objects(GENES), "attr_dict": told}
    torch.save(saved, folder / f"{prefix}model.pt")
    return folder


def _write_three(folder: Path, model: Model, prefix: str) -> Path:
    # torch of that time wrote no zip archives unless it was asked to.
    torch.save(
        model.state, folder / f"{prefix}model_params.pt", _use_new_zipfile_serialization=False
    )
    np.savetxt(folder / f"{prefix}var_names.csv", np.array(GENES), fmt="%s")
    told = {
        "scvi_setup_dict_": setup_dict(model),
        "init_params_": {**model.made_with, "use_cuda": True},
        "is_trained_": True,
        "history_": defaultdict(list, {"elbo_train_set": [3.0]}),
        "train_indices_": np.arange(30),
    }
    if model.scanvi:
        told["unlabeled_category_"] = "unknown"
    with (folder / f"{prefix}attr.pkl").open("wb") as file:
        pickle.dump(told, file)
    return folder


@dataclass(frozen=True)
class SomeCells:
    """Cells for a model, with the codes of their categories."""

    x: np.ndarray
    batch: np.ndarray
    plate: np.ndarray
    continuous: np.ndarray

    def latents(self, model: Model) -> tuple[np.ndarray, np.ndarray]:
        return model.encode(self.x, self.batch, self.plate, self.continuous)

    def obs(self, model: Model) -> pd.DataFrame:
        columns: dict[str, Any] = {
            "sample": pd.Categorical([model.batches[code] for code in self.batch]),
            "cell_type": pd.Categorical([LABELS[code % 3] for code in range(len(self.x))]),
            "fine": pd.Categorical([f"fine {code % 5}" for code in range(len(self.x))]),
            "plate": [(model.plates or ("p0",))[code] for code in self.plate],
        }
        columns |= {f"x{i}": self.continuous[:, i] for i in range(model.n_continuous)}
        return pd.DataFrame(columns, index=[f"cell{i}" for i in range(len(self.x))])


def some_cells(model: Model, n_cells: int = 40, seed: int = 5) -> SomeCells:
    rng = np.random.default_rng(seed)
    return SomeCells(
        x=rng.poisson(2.0, (n_cells, len(GENES))).astype(np.float32),
        batch=rng.integers(0, len(model.batches), n_cells),
        plate=rng.integers(0, max(1, len(model.plates)), n_cells),
        continuous=rng.normal(size=(n_cells, model.n_continuous)),
    )
