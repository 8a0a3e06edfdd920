"""A reference version into one file and out of one, for places without a network."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.database import Database
from app.imports import store_import
from app.licences import LONGEST_LICENCE
from app.problems import (
    DamagedReference,
    DiskFull,
    InvalidReferenceFile,
    ReferenceVersionTaken,
    UntrustedReferenceFile,
)
from app.reference_archive import (
    CONTENTS,
    LARGEST_MANIFEST,
    SIGNATURE,
    ArchiveReader,
    ArchiveWriter,
    Contents,
    Entry,
    SignatureText,
    packed,
)
from app.references import manifest_digest, version_folder
from app.signatures import Signature, is_signed_by, sign
from app.storage import Storage, read_whole
from app.tables import ReferenceVersion, new_id
from models_store.manifest import MANIFEST_FILE, Manifest


def export_version(
    storage: Storage, version: ReferenceVersion, target: Path, *, key_file: Path | None = None
) -> Contents:
    """Write a version whose bundle is in the store, signed if there is a key.

    The same version gives the same bytes. Every file is compared with its digest on the way.

    Raises:
        DamagedReference: the store's files are not those of the manifest.
    """
    contents = _contents(storage, version)
    text = packed(contents)
    signature = None if key_file is None else sign(text, key_file)
    part = target.with_name(f"{target.name}.part")
    try:
        with part.open("wb") as file:
            writer = ArchiveWriter(file)
            writer.add(CONTENTS, len(text), [text])
            if signature is not None:
                signed = packed(SignatureText(**vars(signature)))
                writer.add(SIGNATURE, len(signed), [signed])
            for name in contents.names:
                _add(writer, storage, f"{version.bundle_prefix}/{name}", contents.files[name])
            writer.end()
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return contents


def import_version(
    database: Database,
    storage: Storage,
    path: Path,
    *,
    staging: Path,
    reserve_bytes: int,
    trusted: Collection[str],
    allow_unsigned: bool,
    owner: str,
) -> tuple[ReferenceVersion, str | None]:
    """Check a reference file whole, then register it under its own name and number.

    Returns the version, and the public key that signed it, None if none did.

    Raises:
        InvalidReferenceFile: it is damaged, or holds what no reference file holds.
        UntrustedReferenceFile: it is unsigned, or signed by a key that is not trusted.
        ReferenceVersionTaken: another bundle has, or had, this number.
    """
    with path.open("rb") as file, _folder(staging) as folder:
        reader = ArchiveReader(file)
        signer = _signer(reader, trusted, allow_unsigned)
        with database.reading() as session:
            found = reader.contents
            _check_number(session, found.name, found.version, found.manifest_sha256)
        _check_space(found, staging, reserve_bytes)
        reader.unpack(folder)
        manifest = _manifest(found, folder)
        prefix = f"{version_folder(manifest['name'], manifest['version'])}/import-{new_id()}"
        storage.publish_folder(folder, prefix)
    with database.writing() as session:
        try:
            version = _register(session, owner, prefix, manifest, signer)
        except IntegrityError as error:  # where the database lets two writers in at once
            storage.delete(prefix)
            raise ReferenceVersionTaken(
                f"{found.name} version {found.version} was just added by somebody else.",
                fix="See `cellgraft references list`.",
            ) from error
        except BaseException:
            storage.delete(prefix)
            raise
        session.commit()
    return version, signer


def _contents(storage: Storage, version: ReferenceVersion) -> Contents:
    files = dict((version.manifest or {}).get("files", {}))
    try:
        manifest_text = read_whole(storage, f"{version.bundle_prefix}/{MANIFEST_FILE}")
        sizes = {name: storage.size(f"{version.bundle_prefix}/{name}") for name in files}
    except FileNotFoundError as error:
        raise _damaged(version.name, "A file") from error
    digest = manifest_digest(json.loads(manifest_text))
    if digest != version.manifest_sha256:
        raise _damaged(version.name, MANIFEST_FILE)
    return Contents(
        name=version.name,
        version=version.version,
        manifest_sha256=digest,
        files={
            MANIFEST_FILE: Entry(
                bytes=len(manifest_text), sha256=hashlib.sha256(manifest_text).hexdigest()
            ),
            **{name: Entry(bytes=sizes[name], sha256=files[name]) for name in files},
        },
    )


def _add(writer: ArchiveWriter, storage: Storage, key: str, entry: Entry) -> None:
    name = key.rpartition("/")[2]
    if writer.add(name, entry.bytes, storage.read(key, 0, entry.bytes)) != entry.sha256:
        raise _damaged(key, name)


def _signer(reader: ArchiveReader, trusted: Collection[str], allow_unsigned: bool) -> str | None:
    signature = reader.signature
    if signature is None:
        if not allow_unsigned:
            raise UntrustedReferenceFile(
                "The file is not signed: anybody may have made or changed it.",
                fix="Ask for a signed one, or take it at your own risk with --allow-unsigned.",
            )
        return None
    signed = Signature(signature.public_key, signature.signature)
    if not is_signed_by(reader.contents_text, signed):
        raise InvalidReferenceFile(
            "The signature is not of these contents: the file was changed, or damaged.",
            fix="Get it again from who made it.",
        )
    if signature.public_key not in trusted:
        raise UntrustedReferenceFile(
            f"The file is signed by the key {signature.public_key}, which was not said to be "
            "trusted.",
            fix="If you know that this is the maker's key, name its file with --trust.",
            public_key=signature.public_key,
        )
    return signature.public_key


def _check_number(session: Session, name: str, version: int, digest: str) -> None:
    here = (ReferenceVersion.name == name, ReferenceVersion.version == version)
    found = session.scalars(select(ReferenceVersion).where(*here)).one_or_none()
    if found is not None:
        same = found.manifest_sha256 == digest
        raise ReferenceVersionTaken(
            f"{name} version {version} is here already, {found.state}: "
            + ("the same one." if same else "another one."),
            fix="There is nothing to do."
            if same and found.bundle_prefix
            else "No number is given twice; have the version built again under a new number.",
            state=found.state,
            same=same,
        )


def _check_space(contents: Contents, staging: Path, reserve_bytes: int) -> None:
    free = shutil.disk_usage(staging).free - reserve_bytes
    if contents.total_bytes > free:
        raise DiskFull(
            f"The reference takes {contents.total_bytes} bytes; {max(free, 0)} are free.",
            fix="Free disk space on the server, then import it again.",
        )


def _manifest(contents: Contents, folder: Path) -> dict[str, Any]:
    """The manifest, if it is one, and is of just these files."""
    raw = (folder / MANIFEST_FILE).read_bytes() if _is_small(contents) else b""
    try:
        told: dict[str, Any] = json.loads(raw, parse_constant=_no_number)
        manifest = Manifest.model_validate(told)
    except (ValidationError, ValueError, RecursionError) as error:
        raise _unfit("its manifest is none that this version understands") from error
    listed = {name: each.sha256 for name, each in contents.files.items() if name != MANIFEST_FILE}
    if (manifest.name, manifest.version) != (contents.name, contents.version):
        raise _unfit("its manifest is of another version")
    if dict(manifest.files) != listed or manifest_digest(told) != contents.manifest_sha256:
        raise _unfit("its manifest does not name just these files")
    if b"\\u0000" in raw or len(manifest.licence or "") > LONGEST_LICENCE:
        raise _unfit("its manifest holds texts that no manifest of this service holds")
    return told


def _is_small(contents: Contents) -> bool:
    return contents.files[MANIFEST_FILE].bytes <= LARGEST_MANIFEST


def _register(
    session: Session, owner: str, prefix: str, manifest: dict[str, Any], signer: str | None
) -> ReferenceVersion:
    """The rows, not yet committed."""
    _check_number(session, manifest["name"], manifest["version"], manifest_digest(manifest))
    version = store_import(
        session,
        owner=owner,
        prefix=prefix,
        manifest=manifest,
        options={"import": "cgref", "signed_by": signer},
        signed_by=signer,
    )
    session.flush()
    return version


@contextmanager
def _folder(staging: Path) -> Iterator[Path]:
    folder = staging / f"import-{new_id()}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not a number of JSON")


def _damaged(what: str, name: str) -> DamagedReference:
    return DamagedReference(
        f"{name} of {what} is not what its manifest says.",
        fix="Run `cellgraft fsck`; restore the file from a backup, or build the version again.",
    )


def _unfit(how: str) -> InvalidReferenceFile:
    return InvalidReferenceFile(
        f"The file cannot be imported: {how}.",
        fix="Export it again, with this version of Cellgraft or an earlier one.",
    )
