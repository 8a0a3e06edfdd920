"""references import: of what scvi-tools saved, or of what another service exported."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.commands.reference_files import import_reference_file
from app.commands.surroundings import DataDir, become_worker, option, options, settings_from
from app.problems import MalformedRequest


def import_(
    path: Annotated[
        str,
        typer.Argument(help="A folder, a model.pt, hf://owner/name[@rev], or a .cgref file."),
    ],
    *,
    name: Annotated[
        str | None, typer.Option(help="Lower-case letters, digits, dots, dashes. Not for a .cgref.")
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(help="What stands before model.pt, where a folder has several.")
    ] = None,
    cells: Annotated[
        Path | None,
        typer.Option(help="An h5ad of the reference's cells; default: adata.h5ad beside the save."),
    ] = None,
    no_cells: Annotated[bool, typer.Option("--no-cells", help="Take no cells.")] = False,
    latent_key: Annotated[
        str | None, typer.Option(help="Latents in obsm, instead of encoding counts.")
    ] = None,
    labels_key: Annotated[
        list[str] | None,
        typer.Option(help="obs column; repeatable, in the order of levels."),
    ] = None,
    umap_key: Annotated[str | None, typer.Option(help="A published UMAP in obsm.")] = None,
    batch_key: Annotated[
        str | None, typer.Option(help="obs column of the batches, if renamed since.")
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="layers/NAME or raw/X; default: what the model names.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="SPDX identifier.")] = None,
    citation: Annotated[str | None, typer.Option()] = None,
    species: Annotated[str | None, typer.Option()] = None,
    trust: Annotated[
        list[Path] | None, typer.Option(help="A public key that may sign a .cgref; repeatable.")
    ] = None,
    allow_unsigned: Annotated[
        bool, typer.Option("--allow-unsigned", help="Take a .cgref that nobody signed.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Import a model that scvi-tools saved, or a version that another service exported.

    A saved model becomes the next version of --name; nothing is trained. An exported version keeps
    its name and number.
    """
    settings = settings_from(data_dir=data_dir)
    if _is_reference_file(Path(path)):
        import_reference_file(Path(path), trust or [], allow_unsigned, settings)
        return
    if name is None:
        raise MalformedRequest(
            "A saved model has no name of its own.", fix="Choose one: --name NAME."
        )
    become_worker(
        "import",
        path,
        option("--name", name),
        option("--prefix", prefix),
        option("--cells", cells),
        ["--no-cells"] if no_cells else [],
        option("--latent-key", latent_key),
        options("--labels-key", labels_key),
        option("--umap-key", umap_key),
        option("--batch-key", batch_key),
        option("--layer", layer),
        option("--licence", licence),
        option("--citation", citation),
        option("--species", species),
    )


def _is_reference_file(path: Path) -> bool:
    from app.reference_archive import ArchiveReader

    return path.suffix == ".cgref" or ArchiveReader.is_one(path)
