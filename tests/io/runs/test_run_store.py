"""The store that runs are kept in: whether it can be used, and what is said where it cannot."""

import json
import subprocess
import sys
import time

import pytest

from tasks.io.runs import experiment_page, registry, run_store


def test_a_store_that_can_be_written_passes(store):
    run_store.check()
    store.unlink()
    run_store.check()


def test_options_of_a_local_database_are_no_part_of_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db?timeout=30")
    assert run_store.is_new()
    run_store.check()
    assert [path.name for path in tmp_path.glob("runs*")] == ["runs.db"]
    assert not run_store.is_new()


@pytest.mark.parametrize("damage", ["folder", "no-parent", "no-database"])
def test_an_unwritable_store_is_named_with_what_would_do(tmp_path, monkeypatch, damage):
    path = tmp_path / "here" / "mlflow.db"
    if damage == "folder":
        path.mkdir(parents=True)
    elif damage == "no-database":
        path.parent.mkdir()
        path.write_text("this is a text, and long enough to be taken for a database header" * 20)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    with pytest.raises(ValueError, match="MLflow cannot record runs here") as caught:
        run_store.check()
    assert str(path) in str(caught.value)
    assert "MLFLOW_TRACKING_URI" in str(caught.value)


@pytest.mark.parametrize("kind", ["mysql+pymysql", "postgresql+never"])
def test_a_database_without_its_driver_is_named_without_its_password(monkeypatch, kind):
    monkeypatch.setitem(sys.modules, "pymysql", None)  # as if it were not installed
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{kind}://somebody:secret@host/runs")
    with pytest.raises(ValueError, match="its driver is not installed") as caught:
        run_store.check()
    assert f"{kind}://somebody:***@host/runs" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_store_that_does_not_answer_is_no_mistake(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    run_store.check()


def test_the_store_is_the_workspaces_unless_the_environment_names_another(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert run_store.uri() == "sqlite:///mlflow.db"


def test_the_experiments_page_is_as_this_version_wants_it_and_a_persons_description_stays(store):
    client, experiment = run_store.connect()
    client.set_experiment_tag(experiment, "mlflow.note.content", "ours")
    client.set_experiment_tag(experiment, f"mlflow.sharedViewState.{experiment_page.VIEW}", "an earlier one")
    run_store.experiment()
    tags = client.get_experiment(experiment).tags
    assert tags["mlflow.note.content"] == "ours"
    view = json.loads(tags[f"mlflow.sharedViewState.{experiment_page.VIEW}"])
    assert view["columnOrder"] == list(experiment_page.WIDTHS)
    assert "metrics.`domain_loss_change_high`" in view["selectedColumns"]
    assert experiment_page.missing(tags) == {}


def test_a_database_that_is_away_is_given_up_within_seconds(monkeypatch):
    pytest.importorskip("psycopg")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+psycopg://nobody:secret@127.0.0.1:9/none")
    start = time.monotonic()
    with pytest.raises(run_store.outages()):
        run_store.connect()
    assert time.monotonic() - start < 20


def test_two_workspaces_of_one_name_on_one_server_are_told_and_do_not_mix(store, tmp_path, monkeypatch):
    monkeypatch.setattr(run_store, "is_shared", lambda: True)
    _, first = run_store.connect()
    assert run_store.connect()[1] == first
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    with pytest.raises(
        ConnectionError, match=r"experiment 'ratchet' belongs to another workspace, \S+\. export RATCHET_NAME=…"
    ):
        run_store.connect()
    monkeypatch.setenv("RATCHET_NAME", "other")
    assert run_store.connect()[1] != first


def test_clones_of_one_project_share_their_experiment(store, tmp_path, monkeypatch):
    monkeypatch.setattr(run_store, "is_shared", lambda: True)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    numbers = set()
    for remote in (
        "https://me:secret@host/o/project.git",
        "https://token@host/o/project",
        "git@Host:o/project.git",
        "ssh://git@host:22/o/project/",
    ):
        subprocess.run(["git", "config", "remote.origin.url", remote], check=True)
        client, number = run_store.connect()
        numbers.add(number)
        assert client.get_experiment(number).tags[run_store.OWNER] == "host/o/project"
    assert len(numbers) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("alice@host:proj.git", "bob@host:proj.git"),
        ("alice@host:src/proj.git", "bob@host:src/proj.git"),
        ("ssh://alice@host/~/proj.git", "ssh://bob@host/~/proj.git"),
        ("alice@host:x", "alice@host:/x"),
        ("host:x", "host:/x"),
        ("http://localhost:3000/me/p", "http://localhost:8080/me/p"),
    ],
)
def test_projects_of_two_places_do_not_share_an_experiment(first, second):
    assert run_store._places(first)[0] != run_store._places(second)[0]


@pytest.mark.parametrize(
    "remote", ["http://git.corp:3000/ml/p.git", "https://git.corp:8443/ml/p.git", "bob@git.corp:ml/p.git"]
)
def test_another_place_of_a_machine_is_not_taken_for_what_an_earlier_version_wrote(store, monkeypatch, remote):
    monkeypatch.setattr(run_store, "is_shared", lambda: True)
    monkeypatch.setattr(run_store.git, "origin", lambda: "https://git.corp/ml/p.git")
    client, number = run_store.connect()
    monkeypatch.setattr(run_store.git, "origin", lambda: remote)
    with pytest.raises(ConnectionError, match=r"another workspace, git\.corp/ml/p\."):
        run_store.connect()
    client.delete_experiment_tag(number, run_store.OWNER)
    assert run_store.connect()[1] == number, "an earlier version wrote that for both"
    monkeypatch.setattr(run_store.git, "origin", lambda: "https://git.corp/ml/p.git")
    with pytest.raises(ConnectionError, match=r"another workspace, git\.corp.*/p\."):
        run_store.connect()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("alice@host:proj.git", "ssh://alice:secret@host:2222/~/proj"),
        ("alice@host:~/proj", "ssh://bob@host/~alice/proj/"),
        ("alice@host:/srv/x", "ssh://bob@host/srv/x.git"),
        ("git@host:/o/p", "https://token@host/o/p.git"),
        ("gitea@host:me/p.git", "https://host/me/p"),
        ("org-1@github.com:o/r.git", "git@github.com:o/r"),
        ("https://host:443/o/p", "http://host:80/o/p"),
    ],
)
def test_addresses_of_one_place_are_one_project(first, second):
    assert run_store._places(first)[0] == run_store._places(second)[0]


@pytest.mark.parametrize(
    ("remote", "owner"),
    [
        ("http://localhost:3000/me/p.git", "localhost/me/p"),
        ("https://host:443/me/p.git", "host:443/me/p"),
        ("alice@host:p.git", "host/p"),
        ("alice@host:~/p", "host/~/p"),
        ("gitea@host:me/p.git", "host/me/p"),
        ("gitea@host:me/p.git", "host/~gitea/me/p"),
        ("https://me:secret@host:8443/me/p.git", "https://me:***@host:8443/me/p.git"),
        ("git@host:me/p.git", "https://me:***@host/me/p.git"),
    ],
)
def test_an_experiment_of_an_earlier_version_is_known_again(store, monkeypatch, remote, owner):
    monkeypatch.setattr(run_store, "is_shared", lambda: True)
    monkeypatch.setattr(run_store.git, "origin", lambda: remote)
    client, number = run_store.connect()
    client.delete_experiment_tag(number, run_store.OWNER)
    client.set_experiment_tag(number, run_store.FORMER_OWNER, owner)
    assert run_store.connect()[1] == number


def test_a_workspace_whose_remote_has_a_port_knows_its_experiment_again(store, monkeypatch):
    monkeypatch.setattr(run_store, "is_shared", lambda: True)
    monkeypatch.setattr(run_store.git, "origin", lambda: "http://localhost:3000/me/p.git")
    assert run_store.connect()[1] == run_store.connect()[1]


def test_a_registered_model_of_another_workspace_is_left_alone(store, tmp_path, capsys):
    def version(candidate):
        return registry.Version(1, candidate, "promoted", {}, tmp_path / "models/versions/1")

    (tmp_path / "models/versions/1").mkdir(parents=True)
    assert registry.mirror([version("a" * 64)], {"champion": 1})
    assert registry.mirror([version("a" * 64)], {"champion": 1}), "its own is known again"
    assert not registry.mirror([version("b" * 64)], {"champion": 1})
    assert "has another version 1 than this workspace" in capsys.readouterr().out
    client, _ = run_store.connect()
    assert [one.tags["ratchet.candidate"][0] for one in client.search_model_versions("name = 'ratchet'")] == ["a"]
