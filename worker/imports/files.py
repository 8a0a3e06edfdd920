"""Which files a save consists of, found under the path that somebody names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from app.problems import UnreadableSave
from worker.imports.save import SaveFiles
from worker.obs import listed

MODEL, PARAMETERS, VAR_NAMES, ATTRIBUTES = (
    "model.pt",
    "model_params.pt",
    "var_names.csv",
    "attr.pkl",
)
CELLS = ("adata.h5ad", "mdata.h5mu")


@dataclass(frozen=True)
class FoundSave:
    """The files of one save, and the cells that were saved beside it, if they were."""

    files: SaveFiles
    cells: Path | None
    card: Path | None
    """The README.md of a model from a hub."""


def find_save(path: Path, *, prefix: str | None = None) -> FoundSave:
    """The save in a folder, or the one that a file is the weights of.

    Raises:
        UnreadableSave: there is no save, or there are several and no prefix says which.
    """
    if path.is_file():
        return _complete(path)
    if not path.is_dir():
        raise UnreadableSave(
            f"There is no file or folder {path}.", fix="Name the folder that model.save wrote."
        )
    offered = sorted(each for each in path.iterdir() if each.name.endswith((MODEL, PARAMETERS)))
    models = [each for each in offered if prefix is None or _prefix(each) == prefix]
    if len(models) == 1:
        return _complete(models[0])
    if not models:
        held = listed(sorted(each.name for each in path.iterdir())) or "nothing"
        raise UnreadableSave(
            f"The folder {path} holds no model of scvi-tools: no {MODEL} and no {PARAMETERS}"
            + (f" with the prefix {prefix!r}." if prefix else ".")
            + f" It has: {held}.",
            fix="Name the folder that model.save wrote.",
        )
    raise UnreadableSave(
        f"The folder {path} holds {len(models)} models: {listed([m.name for m in models])}.",
        fix="Say which one with --prefix: what stands before model.pt in its name.",
    )


def _prefix(model: Path) -> str:
    return model.name.removesuffix(PARAMETERS if model.name.endswith(PARAMETERS) else MODEL)


def _complete(model: Path) -> FoundSave:
    def beside(name: str) -> Path:
        return model.with_name(_prefix(model) + name)

    cells = next((file for file in map(beside, CELLS) if file.is_file()), None)
    card = model.with_name("README.md")
    files = SaveFiles(model)
    if model.name.endswith(PARAMETERS):
        files = SaveFiles(model, beside(VAR_NAMES), beside(ATTRIBUTES))
        for part in (beside(VAR_NAMES), beside(ATTRIBUTES)):
            if not part.is_file():
                raise UnreadableSave(
                    f"{part.name} is missing beside {model.name}.",
                    fix=f"Copy all three: {PARAMETERS}, {VAR_NAMES} and {ATTRIBUTES}.",
                )
    return FoundSave(files, cells, card if card.is_file() else None)
