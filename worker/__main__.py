"""`python -m worker`: the compute side's commands."""

from __future__ import annotations

import typer

from worker.commands.build import build
from worker.commands.demo import demo_data
from worker.commands.export import export
from worker.commands.import_ import import_
from worker.commands.run import run
from worker.commands.verify import verify

cli = typer.Typer(
    name="python -m worker",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cli.command()(run)
cli.command()(build)
cli.command("import")(import_)
cli.command()(export)
cli.command()(verify)
cli.command("demo-data")(demo_data)


def main() -> None:
    cli()


if __name__ == "__main__":
    main()
