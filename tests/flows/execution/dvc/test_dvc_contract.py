"""Every internal of DVC that flows/execution/dvc relies on. Where this fails after an update of DVC, that package has to follow."""

import inspect
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from flows.execution.dvc import cache, cli, console, forecast, lock_file, repository, run_cache, rwlock, version
from tests.flows.conftest import ROOT

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # in dvc itself

SIGNATURES = {
    "dvc.config:Config": ["dvc_dir", "validate"],
    "dvc.dependency.base:Dependency.get_hash": [],
    "dvc.lock:Lock": ["lockfile", "wait"],
    "dvc.repo:Repo": ["root_dir", "_wait_for_lock"],
    "dvc.repo:Repo.checkout": ["targets", "force", "relink"],
    "dvc.repo:Repo.close": [],
    "dvc.repo:lock_repo": ["repo"],
    "dvc.repo.reproduce:get_active_graph": ["graph"],
    "dvc.repo.reproduce:plan_repro": ["graph", "stages"],
    "dvc.stage:Stage.changed_stage": [],
    "dvc.stage:Stage.outs_cached": [],
    "dvc.stage.cache:StageCache._create_stage": ["cache", "wdir"],
    "dvc.stage.cache:StageCache._get_cache_dir": ["key"],
    "dvc.stage.cache:StageCache._load_cache": ["key", "value"],
    "dvc.stage.cache:_get_cache_hash": ["cache", "key"],
    "dvc.stage.serialize:to_single_stage_lockfile": ["stage"],
    "dvc.output:Output.get_hash": [],
    "dvc.output:Output.get_obj": ["filter_info"],
    "dvc.output:Output.status": [],
    "dvc.dependency:ParamsDependency.read_params": [],
    "dvc.dvcfile:modify_yaml": ["path", "fs"],
    "dvc.utils.serialize:dumps_yaml": ["d"],
    "dvc.utils.serialize:load_yaml": ["path"],
    "dvc.utils.serialize:parse_yaml": ["text", "path"],
    "dvc_data.hashfile.meta:Meta": [],
}
"""`module:name` → parameters that are passed."""

SENTENCES = {
    "dvc.stage.run": ["Running stage '%s':", '"%s %s", ">", cmd'],
    "dvc.stage": ["Stage '%s' didn't change, skipping"],
    "dvc.stage.cache": ["Stage '%s' is cached - skipping run, checking out outputs"],
    "dvc.stage.exceptions": ["failed to run: {cmd}"],
    "dvc.repo.reproduce": ["failed to reproduce{segment} {names}"],
    "dvc.parsing.context": ["Could not find '{key}'"],
    "dvc.lock": ["Unable to acquire lock"],
    "dvc.rwlock": ["is busy, it is being blocked by", "Unable to read RWLock-file", "If there are no processes with such PIDs"],
    "dvc.dvcfile": ["Generating lock file", "Updating lock file"],
    "dvc.repo.scm_context": ["To track the changes with git", "To enable auto staging"],
    "dvc.commands.repro": ["Use `dvc push`"],
    "dvc.commands.status": ["Data and pipelines are up to date"],
}  # fmt: skip
"""Module → what it prints and `console` or `repository` looks for."""


def named(place):
    module, _, name = place.partition(":")
    value = __import__(module, fromlist=["_"])
    for part in name.split("."):
        value = getattr(value, part)
    return value


def test_the_installed_version_is_the_tested_one_and_the_project_asks_for_it():
    version.check()
    minor = int(version.TESTED.partition(".")[2])
    assert f'"dvc>={version.TESTED},<3.{minor + 1}"' in (ROOT / "pyproject.toml").read_text()
    assert f"dvc>={version.TESTED},<3.{minor + 1}" in version.INSTALL
    assert f"\ndvc=={version.TESTED}." in (ROOT / "constraints.txt").read_text()


@pytest.mark.parametrize("other", ["3.68.0", "3.66.1", "4.0"])
def test_another_minor_version_is_one_message_with_what_would_do(done, monkeypatch, other):
    monkeypatch.setattr(metadata, "version", lambda name: other)
    for use in (forecast.plan, lock_file.tidy, lambda: cache.checkout(["one"])):
        with pytest.raises(
            RuntimeError, match=rf"DVC {other} is installed\. .* tested with 3\.67 .* pip install 'dvc>="
        ):
            use()


def test_another_version_ends_a_run_in_that_message_before_any_stage(done):
    program = (
        "from importlib import metadata; real = metadata.version\n"
        "metadata.version = lambda name: '3.68.0' if name == 'dvc' else real(name)\n"
        "from flows.commands import main; main(['run'])"
    )
    failed = subprocess.run(
        [sys.executable, "-c", program], env=done.environment, capture_output=True, text=True, check=False
    )
    assert failed.returncode == 1
    assert failed.stderr.startswith("DVC 3.68.0 is installed.")
    assert failed.stderr.count("\n") == 1


@pytest.mark.parametrize("place", SIGNATURES)
def test_what_is_called_takes_what_is_passed(place):
    parameters = inspect.signature(named(place)).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    assert takes_any or set(SIGNATURES[place]) <= parameters.keys()


@pytest.mark.parametrize("module", SENTENCES)
def test_dvcs_source_still_has_the_sentences_that_are_read(module):
    source = inspect.getsource(__import__(module, fromlist=["_"]))
    for sentence in SENTENCES[module]:
        assert sentence in source


def test_the_graph_has_the_attributes_that_the_forecast_reads(done):
    from dvc.dependency import ParamsDependency

    with repository.opened() as repo:
        graph, stages = repository.ordered_stages(repo)
        assert isinstance(repo.cache.local.oid_to_path("ab" * 16), str)
        assert str(repo.stage_cache.cache_dir).endswith("/runs")
        assert repo.config["core"] is not None
        for stage in stages:
            assert isinstance(stage.addressing, str)
            assert isinstance(stage.name, str)
            assert (stage.frozen, stage.always_changed) == (False, False)
            assert stage.cmd
            assert stage.wdir
            assert list(graph.successors(stage)) is not None
            for out in [*stage.outs, *stage.deps]:
                assert out.hash_info
                assert out.meta is not None
                assert out.fs.protocol == out.protocol == "local"
                assert Path(out.fs_path).is_absolute()
                assert out.fs.isin_or_eq(out.fs_path, out.fs_path)
                assert not out.fs.isin(out.fs_path, out.fs_path)
                assert out.exists
                assert out.def_path
            assert not any(out.persist for out in stage.outs)
            assert all(out.is_in_repo for out in stage.outs)
        (config,) = [dep for dep in stages[0].deps if isinstance(dep, ParamsDependency)]
        assert config.hash_info.value == config.read_params() == {"compute.threads": 2}


@pytest.mark.parametrize("name", ["plain", "a, b", "a #b", "50% é", "'a' \"b\""])
def test_a_cache_may_lie_in_a_folder_of_any_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    repository.write_local_config(tmp_path, tmp_path / name / "cache")
    Path(".dvc/config").write_text("")
    assert cache.folder() == tmp_path / name / "cache"


def test_a_status_of_an_output_is_one_of_the_known_words(done):
    done.path("one.txt").unlink()
    done.path("side.txt").unlink()
    done.path("side.txt").write_text("other")
    assert cache.check_outputs()[1] == {"one.txt": "is missing", "side.txt": "was changed by hand"}
    for file in done.path(".dvc/cache/files/md5").glob("*/*"):
        file.unlink()
    assert set(cache.check_outputs()[1].values()) <= set(cache.WRONG.values())
    assert "is not in DVC's cache" in cache.check_outputs()[1].values()


def test_an_output_is_new_only_where_its_stage_has_run(done):
    done.edit("dvc.yaml", "outs: [side.txt]", "outs: [side.txt, copy.txt]")
    with done.path("dvc.yaml").open("a") as graph:
        graph.write("  later:\n    cmd: cp in.txt later.txt\n    deps: [in.txt]\n    outs: [later.txt]\n")
    assert cache.check_outputs()[1] == {"copy.txt": "is a new output", "later.txt": "has no hash in dvc.lock"}


def test_errors_carry_what_messages_are_made_of(done):
    from dvc.exceptions import CheckoutError, CyclicGraphError, DvcException
    from dvc.lock import LockError

    assert issubclass(LockError, DvcException)
    assert CheckoutError(["a", "b"], {}).target_infos == ["a", "b"]
    with repository.opened() as repo:
        message = str(CyclicGraphError(list(repo.index.graph)[:2]))
    assert re.search(r": \S+, \S+\.$", message)


def test_the_lock_file_has_the_schema_that_is_written(done):
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA

    contents = yaml.safe_load(done.lock)
    assert contents.keys() == {"schema", "stages"}
    assert contents["schema"] == lock_file.SCHEMA
    assert contents["stages"]["one"].keys() == {"cmd", "deps", "params", "outs"}
    assert {file["hash"] for entry in contents["stages"].values() for file in entry["outs"]} == {"md5"}
    lock_file.write(lock_file.stages())
    assert COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(done.lock)) == contents


def test_the_run_cache_has_an_entry_for_each_stage_where_it_is_looked_for(done):
    entries = [
        path.relative_to(cache.folder() / "runs") for path in (cache.folder() / "runs").rglob("*") if path.is_file()
    ]
    assert len(entries) == len(lock_file.stages())
    for start, key, value in (entry.parts for entry in entries):
        assert start == key[:2]
        assert run_cache.NAME.fullmatch(key)
        assert run_cache.NAME.fullmatch(value)
    assert cache.folder() == done.path(".dvc/cache").resolve()
    digest = lock_file.stages()["one"]["outs"][0]["md5"]
    assert cache.file(digest).read_text() == "b\na\n"


def test_dvc_keeps_its_locks_where_they_are_taken(done):
    from dvc import rwlock as dvc_rwlock
    from dvc.repo import Repo

    repo = Repo(".")
    try:
        assert Path(repo.lock.lockfile) == (repository.TEMPORARY_FOLDER / "lock").absolute()
        assert Path(repo.tmp_dir) == repository.TEMPORARY_FOLDER.absolute()
    finally:
        repo.close()
    assert rwlock.PATH == repository.TEMPORARY_FOLDER / dvc_rwlock.RWLOCK_FILE
    assert dvc_rwlock.RWLOCK_LOCK == "rwlock.lock"
    entry = {"pid": 1, "cmd": "dvc"}
    table = {"write": {"/a": entry}, "read": {"/b": [entry]}}
    assert dvc_rwlock.SCHEMA(table) == table


def test_what_repro_prints_is_understood(workspace):
    def lines():
        done = subprocess.run(cli.repro_command("one"), capture_output=True, text=True, check=True)
        return (done.stdout + done.stderr).splitlines()

    states = []
    for prepare in (lambda: None, lambda: None, workspace.path("one.txt").unlink):
        prepare()
        printed = lines()
        states.append([state for line in printed if (state := console.state("one", line))])
        assert [line for line in printed if line and not console.is_chatter(line)] == []
    assert states == [["ran"], ["unchanged"], ["restored"]]


@pytest.mark.parametrize(
    ("key", "fix"),
    [
        ("tune.sparsifier", ". Write `sparsifier: none` into section `tune` of params.yaml"),
        ("tune.adapter", ". Write `adapter: lora` into section `tune` of params.yaml"),
        ("pretrain.adapter", ". Write `adapter: none` into section `pretrain` of params.yaml"),
        ("tune.colour", ""),
        ("rounds", ""),
    ],
)
def test_a_part_that_settings_of_an_earlier_version_lack_is_told_with_its_line(key, fix):
    message = f"failed to parse 'stages.x.deps' in 'dvc.yaml': Could not find '{key}'"
    assert repository._message_with_causes(ValueError(message)) == message + fix
