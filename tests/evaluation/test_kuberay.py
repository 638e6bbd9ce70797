"""docs/kuberay.yaml: a manifest of KubeRay's RayJob whose command is one of ours."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import onnxcam
from onnxcam.cli.main import app

pytestmark = pytest.mark.ray  # which installs PyYAML
MANIFEST = Path(onnxcam.__file__).parents[1] / "docs" / "kuberay.yaml"
JOB = {"entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit", "rayClusterSpec"}
CLUSTER = {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
WORKERS = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
"""Fields of the schema of RayJob, ray.io/v1, which refuses others."""


@pytest.fixture
def manifest() -> dict[str, Any]:
    import yaml

    loaded: dict[str, Any] = yaml.safe_load(MANIFEST.read_text())
    return loaded


def test_its_fields_are_those_of_a_ray_job(manifest: dict[str, Any]) -> None:
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    job = manifest["spec"]
    assert set(job) == JOB
    cluster = job["rayClusterSpec"]
    assert set(cluster) == CLUSTER
    (group,) = cluster["workerGroupSpecs"]
    assert set(group) == WORKERS
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for params in (cluster["headGroupSpec"]["rayStartParams"], group["rayStartParams"]):
        assert all(isinstance(value, str) for value in params.values())  # the schema has no numbers there


def test_all_nodes_run_one_image_and_see_the_data_under_one_path(manifest: dict[str, Any]) -> None:
    cluster = manifest["spec"]["rayClusterSpec"]
    pods = [cluster["headGroupSpec"]["template"]["spec"], cluster["workerGroupSpecs"][0]["template"]["spec"]]
    (head,), (worker,) = (pod["containers"] for pod in pods)
    assert head["image"] == worker["image"]
    assert pods[0]["volumes"] == pods[1]["volumes"]
    assert [mount["mountPath"] for mount in head["volumeMounts"]] == ["/data"]
    assert [mount["mountPath"] for mount in worker["volumeMounts"]] == ["/data"]


def test_its_workers_fit_into_its_nodes(manifest: dict[str, Any]) -> None:
    words = shlex.split(manifest["spec"]["entrypoint"])
    group = manifest["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    cores = group["replicas"] * int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
    workers = int(words[words.index("--workers") + 1])
    assert workers * float(words[words.index("--worker-cpus") + 1]) <= cores


def test_its_command_has_options_of_ours_and_writes_where_the_next_job_finds_it(manifest: dict[str, Any]) -> None:
    words = shlex.split(manifest["spec"]["entrypoint"])
    assert words[:2] == ["onnxcam", "evaluate"]
    known = set(re.findall(r"--[a-z-]+", CliRunner().invoke(app, ["evaluate", "--help"]).output))
    assert {word for word in words if word.startswith("--")} <= known
    assert words[words.index("--address") + 1] == "auto"
    assert words[words.index("--out") + 1].startswith("/data/")
