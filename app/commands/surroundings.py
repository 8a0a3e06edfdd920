"""What commands share: options that become settings, and worker commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from app.database import Database
from app.problems import MalformedRequest
from app.settings import Settings

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where everything is kept; default: CELLGRAFT_DATA_DIR."),
]

RefuseBelow = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Gene coverage below which queries are refused; 0.5."),
]
WarnBelow = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Gene coverage below which queries are warned about; 0.8."),
]
NoRecipeSearch = Annotated[
    bool,
    typer.Option("--no-recipe-search", help="Take the release's default recipe; train no folds."),
]
ArchitectureOptions = Annotated[
    list[str] | None, typer.Option("--set", help="Architecture, as n_latent=20; repeatable.")
]
UnlabeledCategory = Annotated[
    str | None, typer.Option(help="SCANVI: the label that stands for none.")
]
Pretraining = Annotated[bool, typer.Option("--pretraining", help="SCANVI: train an SCVI first.")]
KindOption = Annotated[
    str, typer.Option("--kind", help="SCVI, SCANVI, TOTALVI, PEAKVI, POISSONVI or MULTIVI.")
]
TopRegions = Annotated[
    int | None, typer.Option("--n-top-regions", help="Regions kept, open in most cells; 50,000.")
]
ProteinsKey = Annotated[
    str | None,
    typer.Option("--proteins-key", help="Table of obsm with protein counts."),
]
ConditionKey = Annotated[
    str | None, typer.Option(help="obs column of conditions that the default recipe is to keep.")
]


def settings_from(**options: object) -> Settings:
    """Settings with these options, which child processes inherit through the environment."""
    for name, value in options.items():
        if value is not None:
            text = str(value.absolute()) if isinstance(value, Path) else str(value)
            os.environ[f"CELLGRAFT_{name.upper()}"] = text
    settings = Settings()
    # Children run in the same place, whatever folder they think relative paths start from.
    os.environ["CELLGRAFT_DATA_DIR"] = str(settings.data_dir)
    return settings


def open_database(settings: Settings) -> Database:
    """The database, with its tables as this version needs them."""
    database = Database(settings.database_url)
    database.migrate()
    return database


def become_worker(*arguments: str | Sequence[str]) -> NoReturn:
    """Replace this process by the compute side, which alone holds torch."""
    flat = [part for each in arguments for part in ([each] if isinstance(each, str) else each)]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "worker", *flat])  # noqa: S606


def check_place(path: Path) -> None:
    """Raise MalformedRequest where no file of this name can be made; before the work, not after."""
    folder = path.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK) or path.is_dir():
        raise MalformedRequest(
            f"{path} cannot be written.",
            fix="Name a file in a folder that exists and that you may write to.",
        )


def option(flag: str, value: object) -> list[str]:
    """An option for another command; nothing where it was not given."""
    return [] if value is None else [flag, str(value)]


def coverage_bounds(refuse_below: float | None, warn_below: float | None) -> list[str]:
    """Gene coverage below which a reference refuses queries, and warns."""
    return [*option("--refuse-below", refuse_below), *option("--warn-below", warn_below)]


def options(flag: str, values: Sequence[str] | None) -> list[str]:
    """The same of one that may be repeated."""
    return [part for value in values or () for part in (flag, value)]
