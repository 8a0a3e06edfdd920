"""What is documented is complete, and nothing heavy is imported."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import select
from starlette.testclient import TestClient

from app.database import Database, migration_config
from app.findings import ERRORS, every_code, severity_of
from app.problems import InternalFault, NotCounts, Problem, every_problem
from app.settings import Settings
from app.storage import LocalStorage
from app.tables import IdempotencyKey, ReferenceVersion

from .factories import built

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "h5py", "anndata", "numpy", "pandas", "scipy", "pyarrow", "worker")


def test_every_problem_is_explained() -> None:
    headings = re.findall(r"^## (\S+)$", (ROOT / "docs/errors.md").read_text(), re.MULTILINE)
    assert headings == [kind.type for kind in every_problem()]


def test_every_finding_is_explained() -> None:
    text = (ROOT / "docs/problems.md").read_text()
    sections = re.findall(r"^## (\S+)\n\n(\w+)(?:; answers with `(\S+)`)?\. ", text, re.MULTILINE)
    assert sections == [
        (code, severity_of(code).capitalize(), ERRORS[code].type if code in ERRORS else "")
        for code in every_code()
    ]


def test_findings_have_only_codes_that_are_explained() -> None:
    """And each code is said somewhere: none is left from what a check once found."""
    sources = [*(ROOT / "worker").rglob("*.py"), *(ROOT / "app").rglob("*.py")]
    text = "".join(path.read_text() for path in sources if path.name != "findings.py")
    text += (ROOT / "worker/intake/findings.py").read_text()
    said = set(re.findall(r'(?:located|tell)\(\s*"([a-z0-9-]+)"', text))
    assert said <= set(every_code())
    assert [code for code in every_code() if f'"{code}"' not in text] == []


def test_every_setting_is_in_the_example() -> None:
    text = (ROOT / ".env.example").read_text()
    given = re.findall(r"^(CELLGRAFT_\w+)=(.*)$", text, re.MULTILINE)
    assert {name for name, _ in given} == {
        f"CELLGRAFT_{name.upper()}" for name in Settings.model_fields
    }
    fresh = Settings()
    for name, value in given:
        if value and name != "CELLGRAFT_DATA_DIR":
            shown = getattr(fresh, name.removeprefix("CELLGRAFT_").lower())
            assert type(shown)(value) == shown or str(shown).lower() == value


def test_the_tables_are_what_the_migrations_make(database: Database) -> None:
    with database.engine.begin() as connection:
        command.check(migration_config(connection))


def test_migrating_down_and_up_again(database: Database) -> None:
    with database.engine.begin() as connection:
        command.downgrade(migration_config(connection), "base")
    database.migrate()
    database.migrate()


def test_rows_of_the_earlier_tables_are_kept(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    query = client.put("/v1/queries", content=b"cells").json()["links"]["self"]
    body = {"query": query.rpartition("/")[2], "reference": "pbmc"}
    mapping = client.post("/v1/mappings", json=body).json()["links"]["self"]
    before = [client.get(place).json() for place in (query, mapping)]
    with database.changing_tables() as connection:
        command.downgrade(migration_config(connection), "0006")
    database.migrate()
    assert [client.get(place).json() for place in (query, mapping)] == before
    assert client.delete(query).status_code == 409  # the rows hold each other as before
    assert client.delete(query, params={"cascade": True}).status_code == 204


def test_a_database_of_the_first_tables_is_brought_up(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/old.db")
    now = "2026-01-01 00:00:00"
    with database.engine.begin() as connection:
        command.upgrade(migration_config(connection), "0001")
        connection.exec_driver_sql(
            "INSERT INTO jobs (id, kind, subject_id, owner, state, attempt, max_attempts, "
            "progress, cancel_requested, revision, created_at, updated_at) "
            f"VALUES ('j', 'build', 'v', 'local', 'succeeded', 1, 3, 1, 0, 1, '{now}', '{now}')"
        )
        for version, digest in ((1, "'abc'"), (2, "NULL")):
            connection.exec_driver_sql(
                "INSERT INTO reference_versions (id, owner, name, version, state, options, job_id, "
                f"manifest_sha256, created_at, updated_at) VALUES ('v{version}', 'local', 'pbmc', "
                f"{version}, 'ready', '{{}}', 'j', {digest}, '{now}', '{now}')"
            )
        connection.exec_driver_sql(
            f"INSERT INTO idempotency_keys VALUES ('local', 'k', 'abc', 'gone', '{now}')"
        )
    database.migrate()
    with database.reading() as session:
        places = select(ReferenceVersion.bundle_prefix).order_by(ReferenceVersion.version)
        assert session.scalars(places).all() == ["references/pbmc/1", None]
        assert session.scalars(select(IdempotencyKey)).all() == []
    database.close()


@pytest.mark.parametrize("module", ["app.api", "app.cli", "app.supervisor"])
def test_the_service_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*[n for n in {HEAVY} if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_the_supervisor_holds_no_web_framework() -> None:
    code = "import sys, app.cli; print('fastapi' in sys.modules, 'uvicorn' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


def test_problems_survive_storage_and_process_borders() -> None:
    import pickle

    problem = NotCounts("Row 3 holds 0.5.", fix="Send counts.", row=3, type="never")
    for copy in (Problem.from_dict(problem.as_dict()), pickle.loads(pickle.dumps(problem))):
        assert isinstance(copy, NotCounts)
        assert copy.as_dict() == problem.as_dict()
        assert copy.as_dict()["row"] == 3
        assert copy.as_dict()["type"] == "not-counts"
    assert isinstance(Problem.from_dict({"type": "of-the-future"}), InternalFault)
