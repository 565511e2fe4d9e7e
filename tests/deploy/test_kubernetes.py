"""The Kubernetes manifests: valid, and in agreement with the image, the settings and each other."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.main import create_app
from app.server.launcher import GRACE_SECONDS
from app.settings import MIN_KEY_LENGTH, PREFIX, Settings
from models.urls import is_url
from tests.support.pages import ROOT
from training.cli.program import cli

FOLDER, VARIANT = ROOT / "deploy/kubernetes/base", ROOT / "deploy/kubernetes/object-store"
KUBERNETES = ("1.30.0", kubernetes_validate.latest_version())
FILES = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
Manifest = dict[str, Any]


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


MANIFESTS: dict[str, Manifest] = {path.name: read(path) for path in FILES}
API = MANIFESTS["deployment.yaml"]["spec"]["template"]["spec"]
JOBS = {
    "train.yaml": MANIFESTS["train.yaml"]["spec"],
    "retrain.yaml": MANIFESTS["retrain.yaml"]["spec"]["jobTemplate"]["spec"],
}
PODS = {"deployment.yaml": API} | {name: job["template"]["spec"] for name, job in JOBS.items()}


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", MANIFESTS)
def test_every_manifest_is_valid(name: str, version: str) -> None:
    kubernetes_validate.validate(MANIFESTS[name], version, strict=True)


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_misspelt_key_is_not_valid(name: str) -> None:
    wrong = MANIFESTS[name] | {"specc": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES[0], strict=True)


def test_all_are_applied_but_the_example_of_a_secret() -> None:
    applied = read(FOLDER / "kustomization.yaml")["resources"]
    assert sorted(applied) == sorted(MANIFESTS.keys() - {"secret.example.yaml"})


@pytest.mark.parametrize("name", PODS)
def test_pods_can_do_little(name: str) -> None:
    pod = PODS[name]
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["securityContext"]["runAsNonRoot"]
    assert f"--uid {pod['securityContext']['runAsUser']} " in DOCKERFILE
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not pod["automountServiceAccountToken"]
    assert container["resources"].keys() == {"requests", "limits"}
    assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("name", PODS)
def test_what_a_pod_refers_to_is_there_and_where_the_image_writes_it_may(name: str) -> None:
    pod = PODS[name]
    (container,) = pod["containers"]
    assert {volume["name"] for volume in pod["volumes"]} == {mount["name"] for mount in container["volumeMounts"]}
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    (volumes,) = re.findall(r'^VOLUME \["(/checkpoints)", "(/cache)"\]$', DOCKERFILE, re.MULTILINE)
    assert mounted == {*volumes, "/tmp"}  # noqa: S108
    claims = [
        volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume
    ]
    assert claims == [MANIFESTS["checkpoints.yaml"]["metadata"]["name"]]
    names = {next(iter(source)): next(iter(source.values()))["name"] for source in container["envFrom"]}
    assert names["configMapRef"] == MANIFESTS["configmap.yaml"]["metadata"]["name"]
    assert names["secretRef"] == MANIFESTS["secret.example.yaml"]["metadata"]["name"]
    assert pod["serviceAccountName"] == MANIFESTS["serviceaccount.yaml"]["metadata"]["name"]


def test_only_training_writes_checkpoints() -> None:
    def read_only(pod: Manifest) -> bool:
        mounts = {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}
        return bool(mounts["checkpoints"].get("readOnly", False))

    assert {name: read_only(pod) for name, pod in PODS.items()} == {
        "deployment.yaml": True,
        "train.yaml": False,
        "retrain.yaml": False,
    }
    assert MANIFESTS["checkpoints.yaml"]["spec"]["accessModes"] == ["ReadWriteMany"]


def settings() -> Iterator[tuple[str, str]]:
    yield from MANIFESTS["configmap.yaml"]["data"].items()
    yield from MANIFESTS["secret.example.yaml"]["stringData"].items()
    yield from read(VARIANT / "url.yaml")["data"].items()


@pytest.mark.parametrize(("name", "value"), [*settings()])
def test_every_setting_exists_and_takes_the_value(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert name.removeprefix(PREFIX).lower() in Settings.model_fields
    monkeypatch.setenv(name, value)
    Settings()


def test_the_service_may_listen_where_the_secret_has_keys() -> None:
    keys = MANIFESTS["secret.example.yaml"]["stringData"]
    assert min(len(keys[f"{PREFIX}{name}"]) for name in ("API_KEYS", "ADMIN_KEYS")) >= MIN_KEY_LENGTH
    assert "RATECAST_HOST=0.0.0.0" in DOCKERFILE


def test_probes_ask_what_the_service_answers() -> None:
    (container,) = API["containers"]
    (port,) = container["ports"]
    assert f"EXPOSE {port['containerPort']}\n" in DOCKERFILE.rpartition("\nFROM ")[2]
    paths = create_app(Settings()).openapi()["paths"]
    asked = {probe: container[f"{probe}Probe"]["httpGet"] for probe in ("startup", "readiness", "liveness")}
    assert asked["readiness"]["path"] == asked["startup"]["path"] == "/health/ready"
    assert asked["liveness"]["path"] == "/health/live"
    assert all(probe["path"] in paths and probe["port"] == port["name"] for probe in asked.values())
    assert MANIFESTS["service.yaml"]["spec"]["ports"][0]["targetPort"] == port["name"]
    assert MANIFESTS["networkpolicy.yaml"]["spec"]["ingress"][0]["ports"][0]["port"] == port["name"]


def test_a_pod_has_the_time_to_leave() -> None:
    pause = float(MANIFESTS["configmap.yaml"]["data"]["RATECAST_SHUTDOWN_PAUSE"])
    assert API["terminationGracePeriodSeconds"] > pause + Settings().max_seconds + GRACE_SECONDS
    readiness = API["containers"][0]["readinessProbe"]
    noticed = readiness["periodSeconds"] * readiness["failureThreshold"] + readiness["timeoutSeconds"]
    assert pause >= noticed


def test_selectors_find_the_replicas_and_nothing_else() -> None:
    labels = MANIFESTS["deployment.yaml"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        MANIFESTS["deployment.yaml"]["spec"]["selector"]["matchLabels"],
        MANIFESTS["service.yaml"]["spec"]["selector"],
        MANIFESTS["pdb.yaml"]["spec"]["selector"]["matchLabels"],
        *(spread["labelSelector"]["matchLabels"] for spread in API["topologySpreadConstraints"]),
    ]
    assert all(selector.items() <= labels.items() for selector in selectors)
    for job in JOBS.values():
        assert not any(selector.items() <= job["template"]["metadata"]["labels"].items() for selector in selectors)


def test_the_autoscaler_scales_the_replicas_and_one_at_least_stays() -> None:
    hpa, deployment = MANIFESTS["hpa.yaml"]["spec"], MANIFESTS["deployment.yaml"]
    target = {key: deployment[key] for key in ("apiVersion", "kind")} | {"name": deployment["metadata"]["name"]}
    assert hpa["scaleTargetRef"] == target
    assert hpa["minReplicas"] > MANIFESTS["pdb.yaml"]["spec"]["maxUnavailable"]
    assert "replicas" not in deployment["spec"]


@pytest.mark.parametrize("name", JOBS)
def test_jobs_run_commands_that_exist_and_are_not_tried_again_in_vain(name: str) -> None:
    job = JOBS[name]
    shell, flag, line = job["template"]["spec"]["containers"][0]["command"]
    assert (shell, flag) == ("sh", "-c")
    words = line.split()
    assert words[:5] == ["exec", "python", "-m", "training", "fit"]
    known = {option for parameter in cli.commands["fit"].params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known
    assert words[words.index("--out") + 1] == '"$RATECAST_CHECKPOINTS"'
    (rule,) = job["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onExitCodes"]["values"]) == ("FailJob", [2, 3])


def test_the_variant_with_a_store_of_objects_is_valid_without_the_volume() -> None:
    overlay = read(VARIANT / "kustomization.yaml")
    assert overlay["resources"] == ["../base"]
    assert {patch["path"] for patch in overlay["patches"]} == {
        path.name for path in VARIANT.glob("*.yaml") if path.name != "kustomization.yaml"
    }
    assert is_url(read(VARIANT / "url.yaml")["data"]["RATECAST_CHECKPOINTS"])
    removed = read(VARIANT / "no-claim.yaml")
    assert removed["metadata"]["name"] == MANIFESTS["checkpoints.yaml"]["metadata"]["name"]
    by_kind = {manifest["kind"]: manifest for manifest in MANIFESTS.values()}
    for patch in overlay["patches"]:
        if "target" in patch:
            patched = copy.deepcopy(by_kind[patch["target"]["kind"]])
            for operation in read(VARIANT / patch["path"]):
                _remove(patched, operation)
            kubernetes_validate.validate(patched, KUBERNETES[0], strict=True)
            assert "checkpoints" not in yaml.safe_dump(patched).lower().replace("ratecast_checkpoints", "")


def _remove(manifest: Any, operation: dict[str, str]) -> None:
    """A JSON patch of one kind."""
    assert operation["op"] == "remove"
    *above, last = operation["path"].strip("/").split("/")
    for key in above:
        manifest = manifest[int(key) if isinstance(manifest, list) else key]
    del manifest[int(last)]
