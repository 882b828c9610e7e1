"""The servers of compose.yaml, as far as that can be seen without Docker: published on this machine alone, with passwords from elsewhere, and commands that exist."""

import re

import click
import yaml

from tests.flows.conftest import ROOT

TEXT = (ROOT / "compose.yaml").read_text()
SERVICES = yaml.safe_load(TEXT)["services"]


def test_every_service_is_published_on_this_machine_alone():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert sorted(port.split(":")[0] for port in ports) == ["127.0.0.1"] * 3
    assert "ports" not in SERVICES["postgres"]


def test_no_password_stands_in_the_file_and_none_has_a_default():
    secret = re.compile("PASSWORD|SECRET|KEY|AUTH_STRING|STORE_URI|CONNECTION_URL")
    values = [
        str(value) for one in SERVICES.values() for name, value in one["environment"].items() if secret.search(name)
    ]
    assert len(values) == 7
    assert all(re.search(r"\$\{\w+:\?put it into \.env\}", value) for value in values)
    assert "KEY" not in (ROOT / ".dockerignore").read_text()


def test_ours_run_without_rights_and_every_image_has_a_version():
    for name in ("mlflow", "prefect"):
        one = SERVICES[name]
        assert (one["user"], one["cap_drop"], one["read_only"]) == ("1000:1000", ["ALL"], True)
        assert one["healthcheck"]["test"][:2] == ["CMD", "python"]
        compile(one["healthcheck"]["test"][-1], "healthcheck", "exec")
    assert all(re.search(r":[\w.-]*\d", SERVICES[name]["image"]) for name in ("postgres", "s3"))


def test_the_commands_have_the_options_that_are_given():
    from mlflow.cli import cli as mlflow

    given = SERVICES["mlflow"]["command"]
    assert given[:2] == ["mlflow", "server"]
    command = mlflow.commands["server"]
    assert isinstance(command, click.Command)
    known = {name for option in command.params for name in option.opts}
    assert {word.partition("=")[0] for word in given[2:]} <= known
