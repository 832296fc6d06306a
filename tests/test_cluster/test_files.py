"""The launcher files: Ray accepts them, and they keep the project's own rules."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
FILES = ("cluster.yaml", "cluster-gcp.yaml", "cluster-onprem.yaml")
CLOUDS = FILES[:2]
PINNED = (re.compile(r"ami-[0-9a-f]{17}"), re.compile(r"projects/[a-z-]+/global/images/(?!family/).*-v\d{8}"))


def prepared(file: str) -> dict[str, Any]:
    """A launcher file as Ray uses it, defaults and all."""
    return prepare_config(yaml.safe_load((ROOT / file).read_text()))


def kinds(file: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is said of the head and of the workers."""
    config = prepared(file)
    found = dict(config["available_node_types"])
    head = found.pop(config["head_node_type"])
    (worker,) = found.values()
    return head, worker


def images(node: Any) -> list[str]:
    """Every image that a node's description names, at any depth."""
    if isinstance(node, dict):
        own = [value for key, value in node.items() if key in ("ImageId", "sourceImage")]
        return own + [image for value in node.values() for image in images(value)]
    return [image for value in node for image in images(value)] if isinstance(node, list) else []


def is_spot(node_config: dict[str, Any]) -> bool:
    on_aws = node_config.get("InstanceMarketOptions", {}).get("MarketType")
    return "spot" in (on_aws, node_config.get("scheduling", {}).get("provisioningModel", "").lower())


@pytest.mark.parametrize("file", FILES)
def test_ray_accepts_the_file(file: str) -> None:
    validate_config(prepared(file))


def test_ray_would_refuse_a_misspelt_one() -> None:
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minuets"):
        validate_config(prepared("cluster.yaml") | {"idle_timeout_minuets": 5})


@pytest.mark.parametrize("file", CLOUDS)
def test_the_head_is_kept_and_bears_no_members_while_workers_are_spot(file: str) -> None:
    head, worker = kinds(file)
    assert not is_spot(head["node_config"])
    assert head["resources"] == {"CPU": 0}
    assert is_spot(worker["node_config"])


@pytest.mark.parametrize("file", CLOUDS)
def test_workers_come_and_go_within_bounds(file: str) -> None:
    _, worker = kinds(file)
    config = prepared(file)
    # a population is planned for the nodes that are there when it starts, so one must be
    assert 1 <= worker["min_workers"] < worker["max_workers"] <= config["max_workers"]
    written = yaml.safe_load((ROOT / file).read_text())
    assert written["idle_timeout_minutes"] > 0


@pytest.mark.parametrize("file", CLOUDS)
def test_every_image_is_one_image(file: str) -> None:
    for kind in kinds(file):
        named = images(kind["node_config"])
        assert named
        assert all(any(shape.fullmatch(image) for shape in PINNED) for image in named), named


def test_an_image_family_is_no_pin() -> None:
    family = "projects/deeplearning-platform-release/global/images/family/common-v20260909"
    assert not any(shape.fullmatch(each) for each in (family, "latest_dlami", "") for shape in PINNED)


@pytest.mark.parametrize("file", FILES)
def test_nodes_install_what_the_lock_says_as_make_does(file: str) -> None:
    config = prepared(file)
    for node in ("head", "worker"):
        installs = [line for line in config[f"{node}_setup_commands"] if "install" in line]
        assert "make -C ~/sparsepop install" in installs
        assert not [line for line in installs if "pip install" in line]
    make = (ROOT / "Makefile").read_text()
    assert re.search(r"^install: \$\(READY\)$", make, re.M)
    assert re.search(r"uv pip install .*--compile-bytecode -r requirements\.lock$", make, re.M)


@pytest.mark.parametrize("file", FILES)
def test_what_is_mounted_exists_and_is_all_that_an_install_needs(file: str) -> None:
    mounts = prepared(file)["file_mounts"]
    token = mounts.pop("~/.ray/auth_token")
    assert token == "~/.ray/auth_token"
    assert {f"~/sparsepop/{source}": source for source in mounts.values()} == mounts
    assert all((ROOT / source).exists() for source in mounts.values())
    named = re.search(
        r'readme = "(.*)"\n.*\nlicense-files = \["(.*)"\]', (ROOT / "pyproject.toml").read_text()
    )
    assert named
    needed = {"sparsepop", "tune_configs", "Makefile", "pyproject.toml", "requirements.lock", *named.groups()}
    assert needed <= set(mounts.values())


@pytest.mark.parametrize("file", FILES)
def test_ray_starts_private_and_silent_on_every_node(file: str) -> None:
    config = prepared(file)
    for node, own in (("head", "--head --port=6379"), ("worker", "--address=$RAY_HEAD_IP:6379")):
        assert any("RAY_AUTH_MODE=token" in line for line in config[f"{node}_setup_commands"])
        stop, start = config[f"{node}_start_ray_commands"]
        assert stop == "ray stop"
        assert own in start
        assert "--disable-usage-stats" in start
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in config["head_start_ray_commands"][1]


def test_the_clients_that_the_autoscaler_needs_are_in_the_lock() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    for client in ("boto3", "google-api-python-client"):
        assert re.search(rf"^{client}==[\d.]+$", lock, re.M), client


@pytest.mark.parametrize("file", FILES)
def test_no_file_names_a_package_registry_or_a_secret(file: str) -> None:
    text = (ROOT / file).read_text().lower()
    for word in ("pypi", "index-url", "secret", "access_key"):
        assert word not in text, word


def test_the_on_prem_file_says_how_its_workers_get_started() -> None:
    # the second autoscaler, which `ray up` uses by default, never starts them
    assert "RAY_UP_enable_autoscaler_v2=0 in front of `ray up`" in (ROOT / "cluster-onprem.yaml").read_text()
