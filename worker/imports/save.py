"""One save of scvi-tools, from its files to plain weights and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import save as as_safetensors

from worker.imports.archives import Archive, open_archive
from worker.imports.limits import SaveLimits
from worker.imports.pickled import read_pickle
from worker.imports.plain import Plain
from worker.imports.refusal import too_large, unreadable
from worker.imports.tensors import LastRead, Tensor
from worker.intake.frames import Sink
from worker.names import readable

WEIGHTS = "weights.safetensors"

TOLD = ("registry_", "scvi_setup_dict_", "init_params_", "is_trained_", "unlabeled_category_")
"""The attributes that describe a model. Others hold its history, or name every training cell."""
PYRO = "pyro_param_store"


@dataclass(frozen=True)
class SaveFiles:
    """Where a save is: one file, or the three of before scvi-tools 0.15."""

    model: Path
    var_names: Path | None = None
    attributes: Path | None = None

    def absolute(self) -> SaveFiles:
        """The same for a process in another folder."""
        return SaveFiles(**{name: Path(path).absolute() for name, path in self.as_dict().items()})

    def as_dict(self) -> dict[str, str]:
        paths = {"model": self.model, "var_names": self.var_names, "attributes": self.attributes}
        return {name: str(path) for name, path in paths.items() if path is not None}


def read_save(files: SaveFiles, limits: SaveLimits, sink: Sink) -> dict[str, Any]:
    """Write the weights to the sink; returns genes and attributes as JSON.

    Raises:
        Refusal: the save is damaged, asks for code, or declares more than is accepted.
    """
    try:
        return _read(files, limits, sink)
    except (ValueError, OverflowError) as error:
        said = " ".join(str(error).split())[:200]
        raise unreadable(f"it holds values that do not fit ({said})") from error


def _read(files: SaveFiles, limits: SaveLimits, sink: Sink) -> dict[str, Any]:
    with ExitStack() as stack:
        archive = stack.enter_context(open_archive(files.model, limits))
        state, var_names, attributes = _parts(files, archive, limits)
        tensors = _tensors(state, limits)
        once = LastRead(archive.read)
        by_storage = sorted(tensors.items(), key=lambda named: named[1].storage.key)
        sink.write(WEIGHTS, as_safetensors({n: t.read(once) for n, t in by_storage}))
    plain = Plain(limits)
    return {
        "format": archive.format if files.attributes is None else "three files",
        "var_names": var_names if isinstance(var_names, list) else plain.of(var_names),
        "attributes": {name: plain.of(attributes[name]) for name in TOLD if name in attributes},
    }


def _parts(
    files: SaveFiles, archive: Archive, limits: SaveLimits
) -> tuple[Any, Any, Mapping[str, Any]]:
    """The state dict, the genes and the attributes."""
    value = archive.value
    if files.attributes is None:
        if not isinstance(value, dict) or not {"model_state_dict", "attr_dict"} <= value.keys():
            raise unreadable(
                f"{files.model.name} holds no model of scvi-tools: model_state_dict and attr_dict "
                "are missing"
            )
        state, var_names, attributes = (
            value["model_state_dict"],
            value.get("var_names"),
            value["attr_dict"],
        )
    else:
        assert files.var_names is not None
        state, var_names = value, _lines(files.var_names, limits)
        attributes = _attributes(files.attributes, limits)
    if not isinstance(attributes, dict):
        raise unreadable("its attributes are no dictionary")
    return state, var_names, attributes


def _attributes(path: Path, limits: SaveLimits) -> Any:
    if path.stat().st_size > limits.pickle_bytes:
        raise too_large(f"{path.name} has {path.stat().st_size:,} bytes")
    with path.open("rb") as stream:
        return read_pickle(stream, what=path.name)


def _lines(path: Path, limits: SaveLimits) -> list[str]:
    if path.stat().st_size > limits.pickle_bytes:
        raise too_large(f"{path.name} has {path.stat().st_size:,} bytes")
    text = path.read_bytes().decode("utf-8", "replace")
    return [readable(line.strip().strip('"')) for line in text.splitlines() if line.strip()]


def _tensors(state: Any, limits: SaveLimits) -> dict[str, Tensor]:
    if not isinstance(state, dict):
        raise unreadable("its weights are no dictionary of tensors")
    kept: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name == PYRO and not _has_parameters(tensor):
            continue
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            shown = readable(name)[:80] if isinstance(name, str) else type(name).__name__
            raise unreadable(f"its weights hold {shown!r}, which is no tensor")
        kept[name] = tensor
    if (declared := sum(tensor.n_bytes for tensor in kept.values())) > limits.tensor_bytes:
        raise too_large(f"tensors of {declared:,} bytes together")
    return kept


def _has_parameters(store: Any) -> bool:
    return not isinstance(store, dict) or bool(store.get("params"))
