"""A version into one file and out of it; what is refused on the way."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from app.database import Database
from app.fsck import check_everything
from app.problems import (
    DamagedReference,
    InvalidReferenceFile,
    Problem,
    ReferenceVersionTaken,
    UntrustedReferenceFile,
)
from app.reference_archive import ArchiveReader, ArchiveWriter, Contents, Entry, packed
from app.reference_files import export_version, import_version
from app.references import manifest_digest
from app.signatures import make_keys, read_public_key
from app.storage import LocalStorage
from app.tables import ReferenceVersion

from .factories import built, manifest
from .test_licences import TERMS
from .test_references import removed


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_keys(tmp_path / "house.key")
    return tmp_path / "house.key"


def exported(
    database: Database, storage: LocalStorage, target: Path, key: Path | None = None
) -> Path:
    built(database, storage, **TERMS)
    with database.reading() as session:
        version = session.query(ReferenceVersion).one()
        assert version.manifest is not None
        export_version(storage, version, target, key_file=key)
    return target


def take(
    database: Database, storage: LocalStorage, path: Path, key: Path | None = None, **options: Any
) -> ReferenceVersion:
    staging = path.parent / "staging"
    staging.mkdir(exist_ok=True)
    trusted = [] if key is None else [read_public_key(key.with_name(f"{key.name}.pub"))]
    wanted = {"reserve_bytes": 0, "allow_unsigned": key is None, "owner": "local", **options}
    try:
        return import_version(database, storage, path, staging=staging, trusted=trusted, **wanted)[
            0
        ]
    finally:
        assert list(staging.iterdir()) == []


@pytest.fixture
def elsewhere(tmp_path: Path, sqlite_template: Path) -> tuple[Database, LocalStorage]:
    """Another service, which has nothing yet."""
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "elsewhere" / "cellgraft.db"
    path.write_bytes(sqlite_template.read_bytes())
    return Database(f"sqlite:///{path}"), LocalStorage(tmp_path / "elsewhere" / "store")


Elsewhere = tuple[Database, LocalStorage]


def test_a_version_arrives_as_it_left(
    database: Database,
    storage: LocalStorage,
    elsewhere: Elsewhere,
    key: Path,
    tmp_path: Path,
) -> None:
    file = exported(database, storage, tmp_path / "pbmc.cgref", key)
    version = take(*elsewhere, file, key)
    assert (version.name, version.version, version.state) == ("pbmc", 1, "ready")
    assert (version.licence, version.citation) == tuple(TERMS.values())
    assert version.options["signed_by"] == read_public_key(tmp_path / "house.key.pub")
    for name in ("manifest.json", "cells.parquet"):
        ours = storage.root / "references/pbmc/1/1" / name
        theirs = elsewhere[1].root / str(version.bundle_prefix) / name
        assert theirs.read_bytes() == ours.read_bytes()
    with elsewhere[0].reading() as session:
        assert check_everything(session, elsewhere[1], tell=lambda _: None) == []
        again = session.get_one(ReferenceVersion, version.id)
        second = tmp_path / "again.cgref"
        export_version(elsewhere[1], again, second, key_file=key)
    assert second.read_bytes() == file.read_bytes()


def test_it_is_a_tar_that_every_tar_reads(
    database: Database, storage: LocalStorage, key: Path, tmp_path: Path
) -> None:
    file = exported(database, storage, tmp_path / "pbmc.cgref", key)
    with tarfile.open(file) as archive:
        members = archive.getmembers()
        told = json.loads(archive.extractfile("cgref.json").read())
    assert [each.name for each in members] == [
        "cgref.json",
        "signature.json",
        "manifest.json",
        "cells.parquet",
    ]
    assert {(each.mtime, each.uid, each.uname, each.mode) for each in members} == {
        (0, 0, "", 0o644)
    }
    assert told["manifest_sha256"] == manifest_digest(manifest(**TERMS))
    assert ArchiveReader.is_one(file)
    assert not ArchiveReader.is_one(tmp_path / "house.key")
    assert not ArchiveReader.is_one(tmp_path)


def test_who_signed_it_matters(
    database: Database,
    storage: LocalStorage,
    elsewhere: Elsewhere,
    key: Path,
    tmp_path: Path,
) -> None:
    make_keys(tmp_path / "other.key")
    signed = exported(database, storage, tmp_path / "signed.cgref", key)
    with pytest.raises(UntrustedReferenceFile, match="was not said to be"):
        take(*elsewhere, signed, tmp_path / "other.key")
    with pytest.raises(UntrustedReferenceFile):
        take(*elsewhere, signed)  # --allow-unsigned is no word on this key
    unsigned = exported_again(database, storage, tmp_path / "unsigned.cgref")
    with pytest.raises(UntrustedReferenceFile, match="not signed"):
        take(*elsewhere, unsigned, key)
    assert nothing(elsewhere)
    assert take(*elsewhere, unsigned).options["signed_by"] is None


def exported_again(database: Database, storage: LocalStorage, target: Path) -> Path:
    with database.reading() as session:
        export_version(storage, session.query(ReferenceVersion).one(), target)
    return target


def nothing(elsewhere: Elsewhere) -> bool:
    with elsewhere[0].reading() as session:
        return session.query(ReferenceVersion).count() == 0 and not list(elsewhere[1].keys())


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_changed_byte_anywhere_is_refused(
    sqlite_signed: tuple[Elsewhere, Path, Path], data: st.DataObject
) -> None:
    elsewhere, file, key = sqlite_signed
    whole = file.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    flip = data.draw(st.integers(1, 255))
    changed = file.with_name("changed.cgref")
    changed.write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
    with pytest.raises(Problem) as refused:
        take(*elsewhere, changed, key)
    assert refused.value.type in {"invalid-reference-file", "untrusted-reference-file"}
    assert nothing(elsewhere)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_file_cut_anywhere_or_with_more_behind_it_is_refused(
    sqlite_signed: tuple[Elsewhere, Path, Path], data: st.DataObject
) -> None:
    elsewhere, file, key = sqlite_signed
    whole = file.read_bytes()
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    changed = file.with_name("changed.cgref")
    changed.write_bytes(data.draw(st.sampled_from([cut, whole + b"\0", whole + whole])))
    with pytest.raises(InvalidReferenceFile):
        take(*elsewhere, changed, key)
    assert nothing(elsewhere)


@pytest.fixture
def sqlite_signed(
    sqlite_url: str, storage: LocalStorage, elsewhere: Elsewhere, key: Path, tmp_path: Path
) -> tuple[Elsewhere, Path, Path]:
    file = exported(Database(sqlite_url), storage, tmp_path / "pbmc.cgref", key)
    return elsewhere, file, key


def archive(
    *members: tuple[tarfile.TarInfo, bytes], told: dict[str, Any] | None = None, **files: bytes
) -> bytes:
    """An unsigned file with these members in place of what its contents list."""
    text = json.dumps(told or contents(files)).encode()
    out = io.BytesIO()
    writer = ArchiveWriter(out)
    writer.add("cgref.json", len(text), [text])
    for member, content in members:
        out.write(member.tobuf(tarfile.GNU_FORMAT, "ascii", "strict") + content)
        out.write(bytes(-len(content) % 512))
    writer.end()
    return out.getvalue()


def contents(files: dict[str, bytes]) -> dict[str, Any]:
    import hashlib

    told = Contents(
        name="pbmc",
        version=1,
        manifest_sha256="0" * 64,
        files={
            name: Entry(bytes=len(each), sha256=hashlib.sha256(each).hexdigest())
            for name, each in files.items()
        },
    )
    return json.loads(packed(told))


def member(name: str, content: bytes = b"", **changes: Any) -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.size = len(content)
    for field, value in changes.items():
        setattr(made, field, value)
    return made, content


TEXT = b"{}"
HOSTILE: dict[str, Callable[[], bytes]] = {
    "a symbolic link": lambda: archive(
        member("manifest.json", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        **{"manifest.json": b""},
    ),
    "a hard link": lambda: archive(
        member("manifest.json", type=tarfile.LNKTYPE, linkname="cgref.json"),
        **{"manifest.json": b""},
    ),
    "a device": lambda: archive(
        member("manifest.json", type=tarfile.CHRTYPE, devmajor=1), **{"manifest.json": b""}
    ),
    "a folder": lambda: archive(
        member("manifest.json", type=tarfile.DIRTYPE), **{"manifest.json": b""}
    ),
    "a path upwards": lambda: archive(member("../escape", TEXT), **{"manifest.json": TEXT}),
    "an absolute path": lambda: archive(member("/tmp/escape", TEXT), **{"manifest.json": TEXT}),
    "a path that is listed": lambda: archive(
        member("manifest.json", TEXT),
        told={
            **contents({"manifest.json": TEXT}),
            "files": {"../x": {"bytes": 2, "sha256": "0" * 64}},
        },
    ),
    "what is not listed": lambda: archive(
        member("manifest.json", TEXT), member("more", TEXT), **{"manifest.json": TEXT}
    ),
    "something twice": lambda: archive(
        member("manifest.json", TEXT), member("manifest.json", TEXT), **{"manifest.json": TEXT}
    ),
    "less than is listed": lambda: archive(**{"manifest.json": TEXT}),
    "another size": lambda: archive(member("manifest.json", b"{ }"), **{"manifest.json": TEXT}),
    "no manifest": lambda: archive(member("weights", TEXT), weights=TEXT),
    "an extended header": lambda: archive(
        member("manifest.json", TEXT, type=tarfile.XHDTYPE), **{"manifest.json": TEXT}
    ),
    "a program": lambda: archive(
        member("manifest.json", TEXT, mode=0o755), **{"manifest.json": TEXT}
    ),
    "no manifest in the manifest": lambda: archive(
        member("manifest.json", TEXT), **{"manifest.json": TEXT}
    ),
    "numbers that are none": lambda: archive(
        member("manifest.json", b"NaN"), **{"manifest.json": b"NaN"}
    ),
    "more than there is room for": lambda: archive(
        told={
            **contents({"manifest.json": TEXT}),
            "files": {"manifest.json": {"bytes": 2**50, "sha256": "0" * 64}},
        }
    ),
    "a later format": lambda: archive(
        told={**contents({"manifest.json": TEXT}), "format_version": 2}
    ),
    "nothing": lambda: b"",
    "no tar": lambda: b"x" * 2048,
    "zeros": lambda: bytes(4096),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_no_reference_file_holds(elsewhere: Elsewhere, tmp_path: Path, what: str) -> None:
    path = tmp_path / "hostile.cgref"
    path.write_bytes(HOSTILE[what]())
    with pytest.raises(InvalidReferenceFile):
        take(*elsewhere, path)
    assert nothing(elsewhere)


def test_a_file_larger_than_the_disk_is_refused_before_it_is_unpacked(
    elsewhere: Elsewhere, tmp_path: Path
) -> None:
    path = tmp_path / "large.cgref"
    path.write_bytes(archive(member("manifest.json", TEXT), **{"manifest.json": TEXT}))
    with pytest.raises(Problem) as refused:
        take(*elsewhere, path, reserve_bytes=2**60)
    assert refused.value.type == "disk-full"


def test_a_manifest_of_other_files_is_refused(
    sqlite_url: str, storage: LocalStorage, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    told = json.dumps(manifest()).encode()
    for files in ({"cells.parquet": b"other"}, {}, {"cells.parquet": b"cells", "more": b""}):
        path = tmp_path / "other.cgref"
        named = {"manifest.json": told, **files}
        digest = {"manifest_sha256": manifest_digest(manifest())}
        path.write_bytes(
            archive(
                *(member(name, named[name]) for name in ["manifest.json", *sorted(files)]),
                told={**contents(named), **digest},
            )
        )
        with pytest.raises(InvalidReferenceFile, match="just these files"):
            take(*elsewhere, path)
    assert nothing(elsewhere)


def test_a_number_is_never_given_twice(
    client: TestClient, database: Database, storage: LocalStorage, tmp_path: Path
) -> None:
    file = exported(database, storage, tmp_path / "pbmc.cgref")
    with pytest.raises(ReferenceVersionTaken, match="the same one"):
        take(database, storage, file)
    removed(database, storage, 1)
    with pytest.raises(ReferenceVersionTaken, match="withdrawn"):
        take(database, storage, file)
    assert not list(storage.keys("references"))


def test_an_imported_version_is_served_and_counted_on(
    client: TestClient,
    database: Database,
    storage: LocalStorage,
    elsewhere: Elsewhere,
    tmp_path: Path,
) -> None:
    file = exported(*elsewhere, tmp_path / "pbmc.cgref")
    take(database, storage, file)
    shown = client.get("/v1/references/pbmc").json()
    assert (shown["state"], shown["version"], shown["licence"]) == ("ready", 1, "CC-BY-4.0")
    assert client.get("/v1/references/pbmc/cells.parquet").content == b"cells"
    assert built(database, storage).version == 2


def test_a_damaged_version_is_not_exported(
    database: Database, storage: LocalStorage, tmp_path: Path
) -> None:
    built(database, storage)
    (storage.root / "references/pbmc/1/1/cells.parquet").write_bytes(b"CELLS")
    target = tmp_path / "pbmc.cgref"
    with pytest.raises(DamagedReference):
        exported_again(database, storage, target)
    (storage.root / "references/pbmc/1/1/manifest.json").write_text("{}")
    with pytest.raises(DamagedReference):
        exported_again(database, storage, target)
    assert list(tmp_path.glob("pbmc*")) == []


def test_keys_are_private_and_never_overwritten(tmp_path: Path) -> None:
    make_keys(tmp_path / "k")
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        make_keys(tmp_path / "k")
    for wrong in ("k", "none"):
        with pytest.raises(Problem):
            read_public_key(tmp_path / wrong)
