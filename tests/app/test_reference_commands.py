"""The commands on the life of a reference, as a person types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.database import Database
from app.problems import Problem
from app.storage import LocalStorage

from .factories import asked, built, checked

Command = Callable[..., str]


@pytest.fixture
def command(tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("CELLGRAFT_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("CELLGRAFT_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(cli, ["references", *arguments])
        if isinstance(done.exception, Problem):
            raise done.exception
        assert done.exit_code == code, done.output
        return done.output

    return run


@pytest.fixture
def database(sqlite_url: str) -> Database:
    return Database(sqlite_url)


def test_a_version_from_its_alias_to_its_end(
    command: Command, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    built(database, storage, licence="CC0-1.0")
    assert command("alias", "pbmc", "stable", "1") == "pbmc@stable names version 1.\n"
    asked(database, checked(database, storage), reference="pbmc@stable", external_id="LIMS-7")
    moved = command("alias", "pbmc", "stable", "2")
    assert moved == "pbmc@stable names version 2; before, it named version 1.\n"
    affected = command("impact", "pbmc@1")
    assert "LIMS-7" in affected
    assert "stable (moved)" in affected
    assert "1 mappings were made with pbmc@1; of 1 the alias names another" in affected
    told = json.loads(command("impact", "pbmc@1", "--json", "--alias-moved"))
    assert [item["external_id"] for item in told["items"]] == ["LIMS-7"]
    command("deprecate", "pbmc", "1", "--reason", "Old.", "--successor", "pbmc@2")
    assert (
        command("withdraw", "pbmc", "1", "--reason", "Wrong.") == "pbmc version 1 is withdrawn.\n"
    )
    listed = command("list")
    assert "withdrawn" in listed
    assert "stable" in listed
    with pytest.raises(Problem, match="withdrawn: Wrong"):
        command("alias", "pbmc", "old", "1")
    assert command("alias", "pbmc", "stable", "--remove") == "pbmc@stable is no alias any more.\n"
    command("alias", "pbmc", "stable", code=2)


def test_a_comparison_in_words_and_as_json(
    command: Command, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    changes = {"genes": {"ids": ["CD3D", "MS4A1", "LYZ", "GNLY"]}, "licence": "CC0-1.0"}
    built(database, storage, **changes)
    told = command("compare", "pbmc@1", "pbmc@2")
    assert "genes: 4 -> 4\n    + 1: GNLY\n    - 1: NKG7" in told
    assert "batches: 2 -> 2, the same" in told
    assert "licence: None -> CC0-1.0" in told
    assert "correlation: not defined" in told
    found = json.loads(command("compare", "pbmc@1", "pbmc", "--json"))
    assert found["genes"]["lost"] == ["NKG7"]


def test_who_sees_a_reference(command: Command, database: Database, storage: LocalStorage) -> None:
    built(database, storage)
    assert "seen by everybody; its cells: open" in command("visibility", "pbmc")
    command("visibility", "pbmc", "--owners", "lab-a, lab-b", "--cells", "lab-a")
    shown = command("visibility", "pbmc")
    assert shown == "pbmc is seen by administrators, lab-a, lab-b; its cells: admin, lab-a.\n"
    assert "everybody; its cells: admin." in command(
        "visibility", "pbmc", "--public", "--cells", "admin"
    )
    command("visibility", "pbmc", "--public", "--owners", "x", code=2)


def test_a_file_for_another_house(
    command: Command, database: Database, storage: LocalStorage, tmp_path: Path
) -> None:
    built(database, storage)
    key, file = str(tmp_path / "key"), str(tmp_path / "pbmc.cgref")
    command("keygen", key)
    assert "signed." in command("export", "pbmc", "1", file, "--sign-with", key)
    with pytest.raises(Problem, match="was not said to be trusted"):
        command("import", file)
    with pytest.raises(Problem, match="the same one"):
        command("import", file, "--trust", f"{key}.pub")
    elsewhere = ["--data-dir", str(tmp_path / "elsewhere")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CELLGRAFT_DATABASE_URL", "")
        told = command("import", file, "--trust", f"{key}.pub", *elsewhere)
        assert "pbmc version 1 is ready, signed by" in told
        assert "references verify pbmc 1" in told
        assert "ready" in command("list", *elsewhere)


def test_a_version_is_shown_with_the_reason_for_its_recipe(
    command: Command, database: Database, storage: LocalStorage
) -> None:
    built(database, storage, recipe_evidence={"reason": "penalty 0.3, because.", "folds": []})
    assert '"recipe_evidence": "penalty 0.3, because."' in command("show", "pbmc")


def test_options_that_would_be_passed_over_are_refused(
    command: Command, database: Database, storage: LocalStorage, tmp_path: Path
) -> None:
    built(database, storage)
    file = str(tmp_path / "pbmc.cgref")
    command("export", "pbmc", "1", file)
    with pytest.raises(Problem, match="--name says nothing of an exported version"):
        command("import", file, "--name", "other")
    with pytest.raises(Problem, match="--licence says nothing of an exported version"):
        command("import", file, "--licence", "MIT", "--allow-unsigned")
    with pytest.raises(Problem, match="--trust says nothing of a saved model"):
        command("import", str(tmp_path), "--name", "a", "--trust", "key.pub")
    with pytest.raises(Problem, match="no name of its own"):
        command("import", str(tmp_path))


def test_a_place_that_cannot_be_written_is_told_before_the_work(
    command: Command, database: Database, storage: LocalStorage, tmp_path: Path
) -> None:
    built(database, storage)
    for place in (str(tmp_path / "nowhere" / "x"), str(tmp_path)):
        with pytest.raises(Problem, match="cannot be written"):
            command("export", "pbmc", "1", place)
        with pytest.raises(Problem, match="cannot be written"):
            command("keygen", place)
