"""Whatever the README and other documents name exists."""

from __future__ import annotations

import json
import re

import pytest

from app.api import create_app
from app.service import open_service
from app.settings import Settings

from .documents import (
    CLIENT_VARIABLES,
    ROOT,
    call_of,
    calls_in,
    code_of,
    make_targets,
    setting_names,
    text,
)

README = text("README.md")
DOCUMENTS = [
    "README.md",
    "SECURITY.md",
    "CHANGELOG.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
]
CALLS = calls_in(code_of(README))


def test_readme_shows_every_command() -> None:
    shown = {
        " ".join(words[:2]) if words[0] in {"references", "keys"} else words[0] for words in CALLS
    }
    assert {"serve", "map", "fsck", "references build", "keys create"} <= shown


@pytest.mark.parametrize("words", CALLS, ids=" ".join)
def test_commands_of_readme_exist_with_their_options(words: list[str]) -> None:
    call = call_of(words)
    assert call.options <= call.known_options


@pytest.mark.parametrize("name", DOCUMENTS)
def test_make_targets_exist(name: str) -> None:
    named = {
        target for line in code_of(text(name)) for target in re.findall(r"^make ([a-z-]+)", line)
    }
    assert named <= make_targets()


@pytest.mark.parametrize(
    "name",
    [
        *DOCUMENTS,
        "docker-compose.yml",
        "compose.embedded.yml",
        "Dockerfile",
        ".env.example",
        *sorted(
            str(path.relative_to(ROOT)) for path in (ROOT / "deploy").rglob("*") if path.is_file()
        ),
    ],
)
def test_variables_are_settings(name: str) -> None:
    named = set(re.findall(r"CELLGRAFT_[A-Z0-9]+(?:_[A-Z0-9]+)*", text(name)))
    assert named <= setting_names() | CLIENT_VARIABLES


def test_env_example_lists_every_setting_once() -> None:
    lines = re.findall(r"^(CELLGRAFT_[A-Z0-9_]+)=", text(".env.example"), flags=re.MULTILINE)
    assert sorted(lines) == sorted(setting_names())


def test_addresses_of_readme_are_routes(tmp_path) -> None:
    service = open_service(Settings(data_dir=tmp_path))
    templates = [
        re.compile(re.sub(r"\{[^}]+\}", "[^/]+", path) + "/?")
        for path in create_app(service).openapi()["paths"]
    ]
    named = set(re.findall(r"127\.0\.0\.1:8000(/v1/[^\s'`?]*)", README))
    assert len(named) >= 5
    for address in named - {"/v1/openapi.json"}:
        assert any(template.fullmatch(address) for template in templates), address
    service.database.close()


def test_request_in_readme_is_what_the_route_takes() -> None:
    from app.routes.mapping_bodies import MappingIn

    bodies = re.findall(r"-d '(\{.*?\})'", README)
    assert bodies
    for body in bodies:
        MappingIn.model_validate(json.loads(body))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_linked_files_exist(name: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text(name)):
        assert ((ROOT / name).parent / target).exists(), target


def test_recipes_of_readme_are_the_recipes() -> None:
    from models_store.recipe import RECIPES

    table = README.split("## Recipes")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z-]+)`", table, flags=re.MULTILINE)) == set(RECIPES)
