"""The servers of compose.yaml, as far as that can be seen without Docker: published on this machine alone, with passwords from elsewhere, and commands that exist."""

import configparser
import os
import re
import shutil
import subprocess
from importlib.resources import files

import click
import pytest
import yaml

from tests.flows.conftest import ROOT

TEXT = (ROOT / "compose.yaml").read_text()
SERVICES, CONFIGS = (yaml.safe_load(TEXT)[name] for name in ("services", "configs"))


def test_every_service_is_published_on_this_machine_alone():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert sorted(port.split(":")[0] for port in ports) == ["127.0.0.1"] * 3
    assert "ports" not in SERVICES["postgres"]


def test_no_password_stands_in_the_file_and_none_has_a_default():
    secret = re.compile("PASSWORD|SECRET|KEY|AUTH_STRING|STORE_URI|CONNECTION_URL")
    values = [
        str(value) for one in SERVICES.values() for name, value in one["environment"].items() if secret.search(name)
    ]
    assert len(values) == 9
    users = CONFIGS["users"]["content"]
    assert all(re.search(r"\$\{\w+:\?put it into \.env\}", value) for value in (*values, users))
    assert "KEY" not in (ROOT / ".dockerignore").read_text()


def test_ours_run_without_rights_and_every_image_is_pinned_by_its_digest():
    for name in ("mlflow", "prefect"):
        one = SERVICES[name]
        assert (one["user"], one["cap_drop"], one["read_only"]) == ("1000:1000", ["ALL"], True)
        assert one["healthcheck"]["test"][:2] == ["CMD", "python"]
        compile(one["healthcheck"]["test"][-1], "healthcheck", "exec")
    dockerfile = (ROOT / "Dockerfile").read_text()
    images = [
        *(SERVICES[name]["image"] for name in ("postgres", "s3")),
        *re.findall(r"^ARG PYTHON=(\S+)", dockerfile, re.M),
    ]
    assert len(images) == 3
    assert all(re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]*@sha256:[0-9a-f]{64}", image) for image in images)
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.M)) == {"${PYTHON}"}


def test_the_commands_have_the_options_that_are_given():
    from mlflow.cli import cli as mlflow

    given = SERVICES["mlflow"]["command"]
    assert given[:2] == ["mlflow", "server"]
    command = mlflow.commands["server"]
    assert isinstance(command, click.Command)
    known = {name for option in command.params for name in option.opts}
    assert {word.partition("=")[0] for word in given[2:]} <= known


def test_users_of_mlflow_have_a_database_that_is_made_and_settings_that_mlflow_knows():
    settings = configparser.ConfigParser()
    settings.read_string(CONFIGS["users"]["content"])
    place = settings["mlflow"]["database_uri"].rpartition("/")[2]
    assert f"CREATE DATABASE {place};" in CONFIGS["databases"]["content"]
    assert {entry["target"] for entry in SERVICES["mlflow"]["configs"]} == {
        SERVICES["mlflow"]["environment"]["MLFLOW_AUTH_CONFIG_PATH"]
    }
    shipped = configparser.ConfigParser()
    shipped.read(files("mlflow") / "server/auth/basic_auth.ini")
    assert set(settings["mlflow"]) <= set(shipped["mlflow"])
    assert re.search(r"^flask-wtf==", (ROOT / "deploy/image/packages.txt").read_text(), re.M)


PLUGIN = "/usr/libexec/docker/cli-plugins"
"""Where Debian's package `docker-compose` has its program."""


def test_compose_itself_takes_the_file_and_names_a_password_that_is_missing():
    program = shutil.which("docker-compose", path=f"{os.environ['PATH']}:{PLUGIN}")
    if program is None:
        pytest.skip("no docker-compose here (Debian's package `docker-compose`)")
    names = sorted(set(re.findall(r"\$\{(\w+):\?", TEXT)))
    command = [program, "--file", str(ROOT / "compose.yaml"), "config"]
    variables = {"PATH": os.environ["PATH"]} | dict.fromkeys(names, "planted")
    whole = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert whole.returncode == 0, whole.stderr
    assert yaml.safe_load(whole.stdout)["services"].keys() == SERVICES.keys()
    assert "${" not in whole.stdout
    del variables[names[0]]
    lacking = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert lacking.returncode
    assert f"{names[0]} is missing a value: put it into .env" in lacking.stderr
