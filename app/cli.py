"""The command `cellgraft`. It never imports the compute side: commands that compute start it."""

from __future__ import annotations

import typer
from pydantic import ValidationError

from app.commands import (
    golden,
    inspection,
    keys,
    mapping,
    mappings,
    ranking,
    reference_files,
    reference_history,
    reference_imports,
    reference_life,
    references,
    serving,
    upkeep,
)
from app.problems import Problem
from app.terminal import told

cli = typer.Typer(
    name="cellgraft",
    help="Reference mapping for single cells, as a service.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cli.command()(serving.serve)
cli.command()(serving.api)
cli.command()(serving.worker)
cli.command("map")(mapping.map_)
cli.command()(inspection.inspect)
cli.command()(ranking.rank)
cli.command()(serving.doctor)
cli.command("demo-data")(serving.demo_data)
cli.command()(upkeep.migrate)
cli.command()(upkeep.fsck)
for command in (
    reference_life.deprecate,
    reference_life.withdraw,
    reference_life.alias,
    reference_life.visibility,
    reference_history.compare,
    reference_history.impact,
    reference_files.export,
    reference_files.keygen,
):
    references.commands.command()(command)
references.commands.command("import")(reference_imports.import_)
references.commands.add_typer(golden.commands, name="golden")
cli.add_typer(references.commands, name="references")
cli.add_typer(mappings.commands, name="mappings")
cli.add_typer(keys.commands, name="keys")


def main() -> None:
    try:
        cli()
    except Problem as problem:
        typer.echo(told(problem), err=True)
        raise SystemExit(1) from problem
    except ValidationError as error:
        for found in error.errors():
            setting = "CELLGRAFT_" + "_".join(str(part) for part in found["loc"]).upper()
            typer.echo(f"{setting}: {found['msg']}", err=True)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
