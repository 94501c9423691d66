"""What the examples in deploy/ and docs/cluster.md name exists: commands, options, extras, volumes, servers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")  # comes with Ray
if sys.version_info < (3, 11):
    pytest.skip("tomllib came with Python 3.11", allow_module_level=True)

import tomllib  # noqa: E402

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
COMPOSE = ("docker-compose.yml", "milvus/compose.yaml")
EXAMPLES = sorted([*DEPLOY.rglob("*.y*ml"), DEPLOY / "Dockerfile", ROOT / "docs" / "cluster.md"])


def load(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8")))


def kubernetes(kind: str) -> dict[str, Any]:
    return next(one for one in load("kuberay.yaml") if one["kind"] == kind)


def options_after(command: str, text: str) -> set[str]:
    """The options of a command that the examples name, on all its lines."""
    return {option for line in re.findall(rf"{command}([^\n#`]*)", text) for option in re.findall(r"--[a-z-]+", line)}


@pytest.mark.parametrize("name", COMPOSE)
def test_services_wait_for_services_and_use_volumes_that_are_declared(name: str) -> None:
    (compose,) = load(name)
    for service in compose["services"].values():
        assert set(service.get("depends_on", ())) <= set(compose["services"])
        assert set(service.get("networks", ())) <= set(compose.get("networks", ()))
        named = [volume.partition(":")[0] for volume in service["volumes"]]
        assert {name for name in named if name[0] not in "./$"} <= set(compose["volumes"])


@pytest.mark.parametrize("name", COMPOSE)
def test_no_port_is_published_beyond_this_machine(name: str) -> None:
    (compose,) = load(name)
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_nodes_of_the_compose_file_see_the_images_at_one_path_and_one_head() -> None:
    (compose,) = load("docker-compose.yml")
    head, worker = compose["services"]["head"], compose["services"]["worker"]
    assert worker["volumes"][0] in head["volumes"]
    port = re.search(r"--port=(\d+)", head["command"])
    assert port is not None
    assert f"--address={head['hostname']}:{port[1]}" in worker["command"]
    assert head["environment"] == worker["environment"]


def test_pods_share_image_token_and_keys_and_the_index_has_its_claim() -> None:
    spec = kubernetes("RayCluster")["spec"]
    head = spec["headGroupSpec"]["template"]["spec"]
    workers = [group["template"]["spec"] for group in spec["workerGroupSpecs"]]
    (container,) = head["containers"]
    for worker in workers:
        (other,) = worker["containers"]
        assert {name: other[name] for name in ("image", "env", "envFrom")} == {
            name: container[name] for name in ("image", "env", "envFrom")
        }
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in head["volumes"]}
    claims = {volume["persistentVolumeClaim"]["claimName"] for volume in head["volumes"]}
    assert claims == {kubernetes("PersistentVolumeClaim")["metadata"]["name"]}
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_only_pods_of_the_cluster_reach_its_ports() -> None:
    cluster = {"matchLabels": {"ray.io/cluster": kubernetes("RayCluster")["metadata"]["name"]}}
    policy = kubernetes("NetworkPolicy")["spec"]
    assert policy["podSelector"] == cluster
    assert policy["ingress"] == [{"from": [{"podSelector": cluster}]}]


def test_the_image_installs_extras_that_the_package_has() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    installed = re.search(r"/src\[([a-z,]+)\]", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"))
    assert installed is not None
    assert set(installed[1].split(",")) <= set(declared)


def test_ray_and_imgindex_have_the_options_of_the_examples() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in EXAMPLES)
    pytest.importorskip("ray")
    for command in (("ray", "start"), ("imgindex", "add"), ("imgindex", "compact"), ("imgindex", "cluster")):
        module = ["ray.scripts.scripts"] if command[0] == "ray" else ["imgindex"]
        shown = subprocess.run(
            [sys.executable, "-m", *module, command[1], "--help"], capture_output=True, text=True, check=True
        ).stdout
        wanted = options_after(" ".join(command), text) - {"--help"}
        assert wanted
        assert not {option for option in wanted if not re.search(rf"{option}\b", shown)}


def test_every_file_of_deploy_is_named_by_the_page() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    for path in EXAMPLES[:-1]:
        name = path.relative_to(ROOT).as_posix()
        assert name in page or (name == "deploy/Dockerfile" and "Dockerfile" in (DEPLOY / "kuberay.yaml").read_text())
