"""`python -m worker`: the compute side's commands."""

from __future__ import annotations

import typer

from app.supervisor import REFUSED_EXIT
from worker.commands.build import build
from worker.commands.demo import demo_data
from worker.commands.doctor import doctor
from worker.commands.export import export
from worker.commands.import_ import import_
from worker.commands.run import run
from worker.commands.verify import verify
from worker.layers import NoSandbox

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
cli.command()(doctor)
cli.command("demo-data")(demo_data)


def main() -> None:
    try:
        cli()
    except NoSandbox as refused:
        typer.echo(str(refused), err=True)
        raise SystemExit(REFUSED_EXIT) from refused


if __name__ == "__main__":
    main()
