"""The Kubernetes manifests: they follow the schemas, and whatever they name exists."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.api import create_app
from app.service import open_service
from app.settings import Settings
from worker.lanes import Timing

from .deployment import health_command, tool
from .documents import ROOT, call_of, setting_names, text

FOLDER = ROOT / "deploy" / "kubernetes"
FOREIGN = {"Kustomization", "ScaledObject", "TriggerAuthentication"}
"""Kinds that are not Kubernetes' own."""
LINT = "{extends: default, rules: {document-start: disable, line-length: {max: 120}}}"

Manifest = dict[str, Any]


def manifests() -> list[Manifest]:
    read = [yaml.safe_load_all(path.read_text()) for path in sorted(FOLDER.glob("*.yaml"))]
    return [document for documents in read for document in documents]


def title(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest.get('metadata', {}).get('name', '')}"


def named(kind: str, name: str) -> Manifest:
    (found,) = [manifest for manifest in manifests() if title(manifest) == f"{kind}/{name}"]
    return found


ALL = manifests()
PODS = [manifest for manifest in ALL if manifest["kind"] in {"Deployment", "Job"}]
NATIVE = [manifest for manifest in ALL if manifest["kind"] not in FOREIGN]
EVERY = pytest.mark.parametrize("manifest", ALL, ids=title)
EVERY_POD = pytest.mark.parametrize("manifest", PODS, ids=title)


def pod_of(manifest: Manifest) -> Manifest:
    pod: Manifest = manifest["spec"]["template"]["spec"]
    return pod


def container_of(manifest: Manifest) -> Manifest:
    (container,) = pod_of(manifest)["containers"]
    found: Manifest = container
    return found


def test_yamllint_finds_nothing() -> None:
    command = [tool("yamllint"), "--strict", "-d", LINT, str(FOLDER)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("manifest", NATIVE, ids=title)
def test_manifests_follow_their_schemas(manifest: Manifest) -> None:
    kubernetes_validate.validate(manifest, "1.37", strict=True)
    # The schema is one that is looked at: a field that nobody knows is refused.
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**manifest, "unheard-of": 1}, "1.37", strict=True)


def test_no_anchors_are_used() -> None:
    """Not every tool that reads manifests resolves them."""
    for path in FOLDER.glob("*.yaml"):
        tokens = yaml.scan(path.read_text())
        assert not any(isinstance(token, yaml.AliasToken) for token in tokens), path.name


def test_kustomization_lists_files_that_exist_and_pins_images() -> None:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    for name in kustomization["resources"]:
        assert (FOLDER / name).is_file()
    pinned = {image["name"] for image in kustomization["images"] if image["newTag"] != "latest"}
    assert {container_of(manifest)["image"] for manifest in PODS} == pinned


@EVERY_POD
def test_pods_run_commands_that_exist(manifest: Manifest) -> None:
    program, *words = container_of(manifest)["command"]
    assert program == "cellgraft"
    assert call_of(words).command.name == manifest["metadata"]["labels"][
        "app.kubernetes.io/component"
    ].removesuffix("-gpu")


@EVERY_POD
def test_pods_run_without_rights(manifest: Manifest) -> None:
    assert pod_of(manifest)["securityContext"]["runAsNonRoot"]
    assert pod_of(manifest)["securityContext"]["runAsUser"] == 10001
    assert not pod_of(manifest)["automountServiceAccountToken"]
    security = container_of(manifest)["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}


@EVERY_POD
def test_pods_may_write_where_cellgraft_writes(manifest: Manifest) -> None:
    mounts = {mount["mountPath"]: mount["name"] for mount in container_of(manifest)["volumeMounts"]}
    data = named("ConfigMap", "cellgraft-settings")["data"]["CELLGRAFT_DATA_DIR"]
    assert set(mounts) == {data, "/tmp"}
    assert set(mounts.values()) == {volume["name"] for volume in pod_of(manifest)["volumes"]}


@EVERY_POD
def test_settings_come_by_reference(manifest: Manifest) -> None:
    container = container_of(manifest)
    sources = [
        {"configMapRef": {"name": "cellgraft-settings"}},
        {"secretRef": {"name": "cellgraft"}},
    ]
    assert container["envFrom"] == sources
    assert {variable["name"] for variable in container.get("env", ())} <= setting_names()


def test_settings_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = named("ConfigMap", "cellgraft-settings")["data"]
    secret = named("Secret", "cellgraft")["stringData"]
    both = {**plain, **secret}
    assert set(both) - setting_names() == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert not [name for name in plain if "URL" in name and "PASSWORD" in plain[name]]
    for name, value in both.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.storage_url == plain["CELLGRAFT_STORAGE_URL"]
    assert settings.broker_url == secret["CELLGRAFT_BROKER_URL"]


def test_the_secret_is_an_example_alone() -> None:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    assert "secret.example.yaml" not in kustomization["resources"]


@EVERY_POD
def test_labels_are_selected(manifest: Manifest) -> None:
    labels = manifest["spec"]["template"]["metadata"]["labels"]
    assert labels == manifest["metadata"]["labels"]
    if manifest["kind"] == "Deployment":
        assert manifest["spec"]["selector"]["matchLabels"] == labels


@pytest.mark.parametrize("kind", ["Service", "PodDisruptionBudget"])
def test_what_stands_before_the_api_selects_it(kind: str) -> None:
    selector = named(kind, "cellgraft-api")["spec"]["selector"]
    wanted = named("Deployment", "cellgraft-api")["metadata"]["labels"]
    assert selector.get("matchLabels", selector) == wanted


def test_ports_are_the_apis() -> None:
    container = container_of(named("Deployment", "cellgraft-api"))
    settings = named("ConfigMap", "cellgraft-settings")["data"]
    (port,) = container["ports"]
    assert str(port["containerPort"]) == settings["CELLGRAFT_PORT"]
    assert named("Service", "cellgraft-api")["spec"]["ports"][0]["targetPort"] == port["name"]
    (rule,) = named("Ingress", "cellgraft")["spec"]["rules"]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    assert backend == {"name": "cellgraft-api", "port": {"name": port["name"]}}


def test_probes_of_the_api_ask_a_route(tmp_path: Path) -> None:
    service = open_service(Settings(data_dir=tmp_path))
    paths = create_app(service).openapi()["paths"]
    container = container_of(named("Deployment", "cellgraft-api"))
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in paths
    service.database.close()


@pytest.mark.parametrize("name", ["cellgraft-worker", "cellgraft-worker-gpu"])
def test_workers_are_probed_as_in_their_image_and_can_drain(name: str) -> None:
    worker = named("Deployment", name)
    for probe in ("startupProbe", "livenessProbe"):
        assert container_of(worker)[probe]["exec"]["command"] == health_command("worker")
    lanes, joins = 2, 2
    drain = lanes * joins * Timing().drain_seconds
    assert pod_of(worker)["terminationGracePeriodSeconds"] > drain


def test_the_gpu_worker_is_the_worker_with_a_gpu() -> None:
    plain = container_of(named("Deployment", "cellgraft-worker"))
    gpu = container_of(named("Deployment", "cellgraft-worker-gpu"))
    assert gpu.pop("env") == [{"name": "CELLGRAFT_DEVICE", "value": "cuda"}]
    assert gpu["resources"]["limits"].pop("nvidia.com/gpu") == 1
    gpu["image"] = plain["image"]
    assert gpu == plain


def test_a_worker_has_room_for_its_threads_and_for_a_check() -> None:
    resources = container_of(named("Deployment", "cellgraft-worker"))["resources"]
    settings = named("ConfigMap", "cellgraft-settings")["data"]
    assert resources["requests"]["cpu"] == settings["CELLGRAFT_THREADS"]
    gibibytes = int(resources["requests"]["memory"].removesuffix("Gi"))
    assert gibibytes * 1024**3 > Settings.model_fields["intake_memory_bytes"].default


def test_scaling_names_the_workers_and_the_secret() -> None:
    scaled = named("ScaledObject", "cellgraft-worker")["spec"]
    assert named("Deployment", scaled["scaleTargetRef"]["name"])
    (trigger,) = scaled["triggers"]
    access = named("TriggerAuthentication", trigger["authenticationRef"]["name"])
    (reference,) = access["spec"]["secretTargetRef"]
    assert reference["parameter"] == "connection"
    assert reference["key"] in named("Secret", reference["name"])["stringData"]


def test_the_ingress_says_what_the_nginx_example_says() -> None:
    told = named("Ingress", "cellgraft")["metadata"]["annotations"]
    nginx = text("deploy/nginx.conf")
    for name in ("proxy-request-buffering", "proxy-buffering"):
        assert told[f"nginx.ingress.kubernetes.io/{name}"] == "off"
        assert f"{name.replace('-', '_')} off;" in nginx
    # No limit but the API's, which says in a problem document what to do.
    assert told["nginx.ingress.kubernetes.io/proxy-body-size"] == "0"
    assert "client_max_body_size 0;" in nginx
