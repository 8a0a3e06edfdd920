"""references import: of what scvi-tools saved, or of what another service exported."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.commands.reference_files import import_reference_file
from app.commands.surroundings import (
    DataDir,
    NoRecipeSearch,
    RefuseBelow,
    WarnBelow,
    become_worker,
    coverage_bounds,
    option,
    options,
    settings_from,
)
from app.problems import MalformedRequest

Source = Annotated[
    str, typer.Argument(help="A folder, a model.pt, hf://owner/name@revision, or a .cgref file.")
]
Name = Annotated[
    str | None, typer.Option(help="Lower-case letters, digits, dots, dashes. Not for a .cgref.")
]
Prefix = Annotated[
    str | None, typer.Option(help="What stands before model.pt, where a folder has several.")
]
Cells = Annotated[
    Path | None,
    typer.Option(
        help="An h5ad or h5mu of the reference's cells; default: the one beside the save."
    ),
]
NoCells = Annotated[bool, typer.Option("--no-cells", help="Take no cells.")]
LatentKey = Annotated[str | None, typer.Option(help="Latents in obsm, instead of encoding counts.")]
LabelsKey = Annotated[
    list[str] | None, typer.Option(help="obs column; repeatable, in the order of levels.")
]
UmapKey = Annotated[str | None, typer.Option(help="A published UMAP in obsm.")]
BatchKey = Annotated[str | None, typer.Option(help="obs column of the batches, if renamed since.")]
Layer = Annotated[
    str | None, typer.Option(help="layers/NAME or raw/X; default: what the model names.")
]
Licence = Annotated[str | None, typer.Option(help="SPDX identifier.")]
Plain = Annotated[str | None, typer.Option()]
Trust = Annotated[
    list[Path] | None, typer.Option(help="A public key that may sign a .cgref; repeatable.")
]
AllowUnsigned = Annotated[
    bool, typer.Option("--allow-unsigned", help="Take a .cgref that nobody signed.")
]


def import_(
    path: Source,
    *,
    name: Name = None,
    prefix: Prefix = None,
    cells: Cells = None,
    no_cells: NoCells = False,
    latent_key: LatentKey = None,
    labels_key: LabelsKey = None,
    umap_key: UmapKey = None,
    batch_key: BatchKey = None,
    layer: Layer = None,
    no_recipe_search: NoRecipeSearch = False,
    licence: Licence = None,
    citation: Plain = None,
    species: Plain = None,
    refuse_below: RefuseBelow = None,
    warn_below: WarnBelow = None,
    trust: Trust = None,
    allow_unsigned: AllowUnsigned = False,
    data_dir: DataDir = None,
) -> None:
    """Import a model that scvi-tools saved, or a version that another service exported.

    A saved model becomes the next version of --name; its network is taken as it is. An exported
    version keeps its name and number.
    """
    settings = settings_from(data_dir=data_dir)
    of_a_save = [
        *option("--name", name),
        *option("--prefix", prefix),
        *option("--cells", cells),
        *(["--no-cells"] if no_cells else []),
        *option("--latent-key", latent_key),
        *options("--labels-key", labels_key),
        *option("--umap-key", umap_key),
        *option("--batch-key", batch_key),
        *option("--layer", layer),
        *(["--no-recipe-search"] if no_recipe_search else []),
        *option("--licence", licence),
        *option("--citation", citation),
        *option("--species", species),
        *coverage_bounds(refuse_below, warn_below),
    ]
    if _is_reference_file(Path(path)):
        _refuse(of_a_save, "an exported version, which is taken as it is")
        import_reference_file(Path(path), trust or [], allow_unsigned, settings)
        return
    of_a_file = [*(["--trust"] if trust else []), *(["--allow-unsigned"] if allow_unsigned else [])]
    _refuse(of_a_file, "a saved model, which nobody signs")
    if name is None:
        raise MalformedRequest(
            "A saved model has no name of its own.", fix="Choose one: --name NAME."
        )
    become_worker("import", path, of_a_save)


def _refuse(given: list[str], what: str) -> None:
    """Refuse options that would be passed over."""
    if given:
        raise MalformedRequest(f"{given[0]} says nothing of {what}.", fix="Leave it out.")


def _is_reference_file(path: Path) -> bool:
    from app.reference_archive import ArchiveReader

    return path.suffix == ".cgref" or ArchiveReader.is_one(path)
