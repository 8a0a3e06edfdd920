"""keys: create, list, revoke."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.columns import utc_now
from app.commands.surroundings import DataDir, open_database, settings_from
from app.keys import LOCAL_OWNER, create_key, list_keys, revoke_key

commands = typer.Typer(help="API keys.", no_args_is_help=True)


@commands.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for; shown in the list.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="read, submit or admin; repeatable.")
    ] = None,
    owner: Annotated[str, typer.Option(help="Whose queries and mappings it sees.")] = LOCAL_OWNER,
    expires_in_days: Annotated[int | None, typer.Option(min=1)] = None,
    data_dir: DataDir = None,
) -> None:
    """Make a key and print it, this once. From the first key on, every request needs one."""
    expires_at = utc_now() + timedelta(days=expires_in_days) if expires_in_days else None
    with open_database(settings_from(data_dir=data_dir)).writing() as session:
        key, secret = create_key(
            session,
            name=name,
            owner=owner,
            scopes=scope or ["read", "submit"],
            expires_at=expires_at,
        )
    typer.echo(
        f"Key {key.id} ({', '.join(key.scopes)}) for {key.owner}. Keep it: it is not shown again.",
        err=True,
    )
    typer.echo(secret)


@commands.command("list")
def list_(data_dir: DataDir = None) -> None:
    """All keys, without their secrets."""
    table = Table("id", "name", "owner", "scopes", "last used", "expires", "revoked")
    with open_database(settings_from(data_dir=data_dir)).reading() as session:
        for key in list_keys(session):
            instants = (key.last_used_at, key.expires_at, key.revoked_at)
            shown = [f"{at:%Y-%m-%d %H:%M}Z" if at else "" for at in instants]
            table.add_row(key.id, key.name, key.owner, ", ".join(key.scopes), *shown)
    Console().print(table)


@commands.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="The middle part of cg_ID_SECRET.")],
    data_dir: DataDir = None,
) -> None:
    """Stop a key from working, at once."""
    with open_database(settings_from(data_dir=data_dir)).writing() as session:
        key = revoke_key(session, key_id=key_id)
    typer.echo(f"Key {key.id} ({key.name}) is revoked.")
