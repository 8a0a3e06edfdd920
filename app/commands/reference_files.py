"""references: export and keygen, and the import of one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.commands.surroundings import DataDir, check_place, open_database, settings_from
from app.keys import LOCAL_ADMINISTRATOR, LOCAL_OWNER
from app.problems import MalformedRequest
from app.references import find_built_version
from app.settings import Settings
from app.storage import Storage, open_storage

# What knows of signatures is imported by the commands that need it: all others start faster.


def export(
    name: Annotated[str, typer.Argument(help="The reference's name.")],
    version: Annotated[int, typer.Argument(help="Which version.")],
    file: Annotated[Path, typer.Argument(help="What to write, as NAME.cgref.")],
    *,
    sign_with: Annotated[Path | None, typer.Option(help="A private key of `keygen`.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Write a version into one file, for a service that this one cannot reach."""
    from app.reference_files import export_version

    check_place(file)
    settings = settings_from(data_dir=data_dir)
    with open_database(settings).reading() as session:
        found = find_built_version(session, name, version, caller=LOCAL_ADMINISTRATOR)
        assert found.manifest is not None  # read here: no session stays open while files are copied
    contents = export_version(_storage(settings), found, file, key_file=sign_with)
    signed = "signed" if sign_with else "not signed"
    typer.echo(f"{file}: {name} version {version}, {contents.total_bytes:,} bytes, {signed}.")


def import_reference_file(
    file: Path, trust: list[Path], allow_unsigned: bool, settings: Settings
) -> None:
    """Check a reference file whole, and register its version under its own name and number."""
    from app.reference_files import import_version
    from app.signatures import read_public_key

    if not file.is_file():
        raise MalformedRequest(f"There is no file {file}.", fix="Name a .cgref file.")
    settings.staging_dir.mkdir(parents=True, exist_ok=True)
    version, signer = import_version(
        open_database(settings),
        _storage(settings),
        file,
        staging=settings.staging_dir,
        reserve_bytes=settings.disk_reserve_bytes,
        trusted=[read_public_key(each) for each in trust],
        allow_unsigned=allow_unsigned,
        owner=LOCAL_OWNER,
    )
    by = f"signed by {signer}" if signer else "not signed by anybody"
    typer.echo(f"{version.name} version {version.version} is ready, {by}.")
    typer.echo(
        f"Prove that it maps on this machine as it did where it was made: "
        f"cellgraft references verify {version.name} {version.version}"
    )


def keygen(
    file: Annotated[Path, typer.Argument(help="The private key; FILE.pub is the public one.")],
) -> None:
    """Make a pair of keys: FILE signs and stays here, FILE.pub goes to whoever imports."""
    from app.signatures import make_keys

    check_place(file)
    try:
        public = make_keys(file)
    except FileExistsError as error:
        raise MalformedRequest(
            f"{error.filename} is there already, and no key is overwritten.",
            fix="Choose another name.",
        ) from error
    typer.echo(f"{file} signs: keep it. {public} is for those who import.")


def _storage(settings: Settings) -> Storage:
    return open_storage(
        settings.storage_url, cache=settings.cache_dir, cache_bytes=settings.cache_bytes
    )
