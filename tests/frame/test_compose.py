"""The compose files: Compose reads them, and whatever they name exists."""

from __future__ import annotations

import re
import shlex
import subprocess
from typing import Any

import pytest

from app.settings import Settings
from worker.lanes import Timing

from .deployment import (
    COMPOSE_FILES,
    PASSWORDS,
    docker_compose,
    health_command,
    instructions,
    last,
    ours,
    seconds,
    services,
    stages,
    tool,
)
from .documents import ROOT, call_of, setting_names, text

OURS = [(file, name) for file in COMPOSE_FILES for name in ours(file)]
ALL = [(file, name) for file in COMPOSE_FILES for name in services(file)]
ONE_SHOT = {"migrate", "bucket"}
LINT = """
extends: default
rules:
  document-start: disable
  truthy: {check-keys: false}
  line-length: {max: 140}
"""


@pytest.mark.parametrize("file", COMPOSE_FILES)
def test_yamllint_finds_nothing(file: str) -> None:
    command = [tool("yamllint"), "--strict", "-d", LINT, file]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("name", PASSWORDS)
def test_no_password_has_a_default(name: str) -> None:
    others = {other: value for other, value in PASSWORDS.items() if other != name}
    refused = docker_compose("docker-compose.yml", "config", "--quiet", **others)
    assert refused.returncode != 0
    assert f"{name} is missing a value" in refused.stderr
    assert ".env.example" in refused.stderr


def test_every_variable_of_the_files_is_in_the_example() -> None:
    lines = set(re.findall(r"^([A-Z0-9_]+)=", text(".env.example"), flags=re.MULTILINE))
    for file in COMPOSE_FILES:
        named = set(re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)", text(file)))
        assert named
        assert named <= lines, file


def test_passwords_of_the_example_are_empty() -> None:
    for name in PASSWORDS:
        assert f"\n{name}=\n" in text(".env.example")


@pytest.mark.parametrize(("file", "name"), OURS)
def test_services_are_built_from_targets_that_exist(file: str, name: str) -> None:
    arguments = {argument.split("=")[0] for step, argument in instructions() if step == "ARG"}
    build = services(file)[name]["build"]
    assert build["target"] in stages()
    assert set(build.get("args", ())) <= arguments


def test_one_image_has_one_build() -> None:
    builds: dict[str, Any] = {}
    for file, name in OURS:
        service = services(file)[name]
        made = (service["build"]["target"], service["build"].get("args"))
        assert builds.setdefault(service["image"], made) == made


@pytest.mark.parametrize(("file", "name"), OURS)
def test_services_run_commands_that_exist(file: str, name: str) -> None:
    service = services(file)[name]
    program, *words = service["command"]
    assert program == "cellgraft"
    call = call_of(words)
    assert call.options <= call.known_options
    # The API's image cannot compute.
    assert service["build"]["target"] == "worker" or words in (["api"], ["migrate"])


@pytest.mark.parametrize("file", COMPOSE_FILES)
def test_commands_in_the_comments_name_services_and_commands(file: str) -> None:
    found = re.findall(r"docker compose (?:-f \S+ )?run --rm (\S+) cellgraft ([^\n`]*)", text(file))
    assert found
    for service, line in found:
        assert service in services(file)
        call = call_of(shlex.split(line))
        assert call.options <= call.known_options


@pytest.mark.parametrize(("file", "name"), OURS)
def test_services_are_set_by_settings(file: str, name: str) -> None:
    given = set(services(file)[name]["environment"])
    assert given <= setting_names() | {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


@pytest.mark.parametrize("name", ours())
def test_settings_are_understood(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in services()[name]["environment"].items():
        monkeypatch.setenv(variable, value)
    settings = Settings()
    assert settings.database_url == (
        f"postgresql://cellgraft:{PASSWORDS['POSTGRES_PASSWORD']}@postgres:5432/cellgraft"
    )
    assert settings.broker_url == f"redis://:{PASSWORDS['REDIS_PASSWORD']}@redis:6379/0"
    assert settings.storage_url.startswith("s3://cellgraft/")
    assert settings.device == ("cuda" if name == "worker-gpu" else "auto")


def test_hosts_in_the_settings_are_services() -> None:
    for service in ours().values():
        for value in service["environment"].values():
            for host, port in re.findall(r"(?:@|//)([a-z]+):(\d+)", value):
                assert host in services(), value
                assert port in {"5432", "6379", "7070"}
    assert "7070" in str(services()["store"]["command"])
    assert services()["bucket"]["entrypoint"][-1] == "/data/cellgraft"


@pytest.mark.parametrize(("file", "name"), OURS)
def test_services_keep_their_data_in_a_volume_and_write_nowhere_else(file: str, name: str) -> None:
    service = services(file)[name]
    targets = {volume["target"] for volume in service["volumes"] if volume["type"] == "volume"}
    assert service["environment"]["CELLGRAFT_DATA_DIR"] in targets
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["tmpfs"] == ["/tmp"]


def test_mounted_files_exist() -> None:
    for service in services().values():
        for volume in service.get("volumes", ()):
            if volume["type"] == "bind":
                assert (ROOT / volume["source"]).is_file()
                assert volume["read_only"]


@pytest.mark.parametrize(("file", "name"), ALL)
def test_images_are_pinned_and_services_come_back(file: str, name: str) -> None:
    service = services(file)[name]
    assert re.search(r":v?\d+\.\d+", service["image"])
    assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped")


@pytest.mark.parametrize(("file", "name"), [pair for pair in ALL if pair[1] not in ONE_SHOT])
def test_services_that_stay_have_a_health_check(file: str, name: str) -> None:
    service = services(file)[name]
    if "healthcheck" in service:
        assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    else:
        assert health_command(service["build"]["target"])
        assert last(service["build"]["target"], "CMD") == str(service["command"]).replace("'", '"')


@pytest.mark.parametrize("name", services())
def test_services_wait_for_what_they_wait_for_rightly(name: str) -> None:
    for other, wait in services()[name].get("depends_on", {}).items():
        finished = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
        assert wait["condition"] == finished


@pytest.mark.parametrize("name", ["worker", "worker-gpu"])
def test_a_worker_has_time_to_give_its_jobs_back(name: str) -> None:
    lanes, joins = 2, 2
    drain = lanes * joins * Timing().drain_seconds
    assert seconds(services()[name]["stop_grace_period"]) > drain


def test_the_gpu_worker_has_a_device_and_a_profile() -> None:
    service = services()["worker-gpu"]
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert service["profiles"] == ["gpu"]
    assert service["build"]["args"]["TORCH_INDEX"] == ""


def test_only_the_proxy_is_published() -> None:
    assert {name for name, service in services().items() if service.get("ports")} == {"proxy"}
    (port,) = services("compose.embedded.yml")["cellgraft"]["ports"]
    assert port["host_ip"] == "127.0.0.1"


def test_redis_keeps_what_it_has_and_asks_for_a_password() -> None:
    command = services()["redis"]["command"][-1]
    for option in ("--appendonly yes", "--maxmemory-policy noeviction", "--requirepass"):
        assert option in command
    assert PASSWORDS["REDIS_PASSWORD"] not in command
