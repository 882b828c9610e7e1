"""The runner: one writer, outputs whole or not at all, a true status, and one message where it stops."""

import contextlib
import errno
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tasks import configuration
from tasks.io.system import process
from tests.runner import ROOT, SLEEP, WAIT_S, Workspace


@pytest.fixture
def workspace(tmp_path, empty_store):
    made = Workspace(tmp_path, empty_store)
    yield made
    made.end()


def gone(pid: int) -> bool:
    """Whether the process has ended within a few seconds."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        with contextlib.suppress(FileNotFoundError):
            if ") Z " in Path(f"/proc/{pid}/stat").read_text():
                return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize(("stage", "kernels"), [("pretrain", "64"), ("fetch", None)])
def test_a_training_keeps_few_kernels_and_other_stages_keep_what_onednn_does(workspace, stage, kernels):
    reads, _ = configuration.files(stage, None, configuration.load(workspace.folder / "params.yaml"))
    for path in reads.values():
        (workspace.folder / path).mkdir(parents=True)
    body = "run.say(f\"kernels {os.environ.get('ONEDNN_PRIMITIVE_CACHE_CAPACITY')}\")"
    _, out, err = workspace.drive(body, stage=stage, arguments=(stage,))
    assert f"kernels {kernels}\n" in out, err


def test_a_stage_makes_its_outputs_and_its_run(workspace, tiny):
    code, _, err = workspace.stage("fetch")
    assert code == 0, err
    assert workspace.outputs() == ["base", "embedder"]
    expected = {f"models/base/{f.name}": hashlib.sha256(f.read_bytes()).hexdigest() for f in tiny.iterdir()}
    found = {name: value for name, value in workspace.digests().items() if name.startswith("models/base/")}
    assert found == expected, "the runner changes no byte of what the stage wrote"

    (run,) = workspace.runs
    assert run.info.status == "FINISHED"
    assert run.data.params["fetch.model.hidden"] == "64"
    assert run.data.tags["dvc.stage"] == "fetch"
    assert run.data.tags["git.commit"] == "none"
    assert len(run.data.tags["ratchet.key"]) == 32
    assert run.info.run_name == f"fetch · {run.data.tags['ratchet.key'][:8]}"
    assert run.data.metrics["peak_memory_mb"] > 10
    facts = [*run.data.tags.values(), *run.data.params.values()]
    assert not [fact for fact in facts if str(workspace.folder) in fact or str(ROOT) in fact or fact.startswith("/")]
    assert list((workspace.folder / ".ratchet/spool").glob("*.jsonl")) == []


def test_what_a_stage_says_notes_and_logs_is_passed_on(workspace):
    code, out, err = workspace.drive()
    assert (code, out) == (0, "started\n"), err
    (events,) = workspace.spooled
    assert {"loss": 2.5} in [event["values"] for event in events if event["kind"] == "metrics" and event["step"] == 1]
    assert {"fact": "7"} in [event["values"] for event in events if event["kind"] == "params"]


def test_what_a_stage_adds_to_a_metric_is_passed_on_as_the_sum(workspace):
    code, _, err = workspace.drive("run.add(cost=0.5, read=3); run.add(cost=0.25); run.add(read=4)")
    assert code == 0, err
    (events,) = workspace.spooled
    figures = [event["values"] for event in events if event["kind"] == "metrics"]
    assert [values["cost"] for values in figures if "cost" in values] == [0.5, 0.75]
    assert [values["read"] for values in figures if "read" in values] == [3, 7]


def test_nothing_is_in_place_before_all_is_written(workspace):
    code, _, err = workspace.drive('assert not os.path.exists("models/base"); assert os.listdir("models")')
    assert code == 0, err
    assert workspace.outputs() == ["base", "embedder"]


def test_a_second_run_of_the_same_stage_refuses_and_names_the_first(workspace):
    first = workspace.hang()
    try:
        code, out, _ = workspace.drive()
        assert code == 1
        assert f"process {first.pid} is running this very stage" in out
    finally:
        first.kill()
        first.communicate()
    code, _, err = workspace.drive()
    assert code == 0, err


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, 128 + signal.SIGINT)]
)
def test_a_stage_that_is_told_to_end_ends_as_killed_without_outputs(workspace, number, expected):
    process = workspace.hang()
    process.send_signal(number)
    _, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == expected
    assert "Traceback" not in err
    assert not {"base", "embedder"} & set(workspace.outputs())
    assert workspace.last_words == ["KILLED"]


def test_a_stage_that_was_shot_is_closed_as_killed_by_the_next_which_starts_afresh(workspace):
    workspace.mlflow = True
    process = workspace.hang()
    process.kill()
    process.communicate()
    (workspace.folder / "models/base.partial/left").touch()
    code, _, err = workspace.drive()
    assert code == 0, err
    assert sorted(run.info.status for run in workspace.runs) == ["FINISHED", "KILLED"]
    assert workspace.outputs() == ["base", "embedder"]
    assert set(workspace.digests()) == {"models/base/half", "models/embedder/half"}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread looks once a second")
def test_a_stage_dies_with_the_process_that_started_it(workspace):
    script = workspace.driver(f"print(os.getpid(), flush=True)\n    {SLEEP}")
    shell = workspace.start("bash", "-c", f'"{sys.executable}" "{script}"; true')
    assert shell.stdout.readline() == "started\n"
    stage = int(shell.stdout.readline())
    assert stage != shell.pid
    shell.kill()
    assert gone(stage)
    shell.communicate()
    assert workspace.last_words == ["KILLED"]
    assert not {"base", "embedder"} & set(workspace.outputs())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('raise ValueError("row 3 holds 7")', "fetch stopped: row 3 holds 7\n"),
        ('raise FileNotFoundError("a: no such file")', "fetch stopped: a: no such file\n"),
        ('raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "models/base")', "the disk is full (models/base)"),
        (
            'raise RuntimeError("http://host: status 413: File too large")',
            "fetch stopped: http://host: status 413: File too large\n",
        ),
    ],
)
def test_a_stage_that_fails_says_one_thing_and_leaves_what_was_there(workspace, body, message):
    (workspace.folder / "models/base").mkdir(parents=True)
    (workspace.folder / "models/base/old").write_text("old")
    code, out, err = workspace.drive(body)
    assert code == 1
    assert message in out
    assert "Traceback" not in out + err
    assert (workspace.folder / "models/base/old").read_text() == "old"
    assert "embedder" not in workspace.outputs()
    assert workspace.last_words == ["FAILED"]


@pytest.mark.parametrize(
    ("number", "name", "message"),
    [
        (
            errno.EACCES,
            "work/rows.partial",
            "work/rows.partial: permission denied. {work} belongs to {user}, and this process",
        ),
        (
            errno.EPERM,
            "work",
            "work: operation not permitted. It belongs to {user}, and this process runs as {user}: let",
        ),
        (
            errno.EROFS,
            "work/rows",
            "work/rows: its file system is read-only. Mount it for writing, or work in a copy of {here}",
        ),
        (errno.ENOENT, "link", "link is a link to gone/rows, which is not there. Correct the link, or remove it."),
        (errno.ENOENT, "gone", "[Errno 2] No such file or directory: 'gone'"),
    ],
)
def test_what_the_system_refuses_is_told_with_whose_it_is_and_what_would_do(
    number, name, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("work").mkdir()
    Path("link").symlink_to("gone/rows")
    said = process.explain(OSError(number, os.strerror(number), name))
    user = pwd.getpwuid(os.geteuid()).pw_name
    assert said.startswith(message.format(work=tmp_path / "work", user=user, here=tmp_path))


def test_outputs_of_settings_that_were_edited_meanwhile_are_not_put_in_place(workspace):
    """DVC reads params.yaml when the stage has ended: its outputs would pass for those of the edited settings."""
    edit = "t = open('params.yaml').read(); open('params.yaml', 'w').write(t.replace('from: config', 'from: config, seed: 7'))"
    params = workspace.folder / "params.yaml"
    settings = yaml.safe_load(params.read_text())
    del settings["fetch"]
    params.write_text(yaml.safe_dump(settings) + "fetch: {model: {from: config}}\n")
    code, out, err = workspace.drive(edit)
    assert code == 1, out
    assert {"base", "embedder"}.isdisjoint(workspace.outputs())
    assert "fetch stopped: fetch.model.seed changed while fetch ran" in out
    assert "Traceback" not in out + err
    assert workspace.last_words == ["FAILED"]
    assert workspace.drive("")[0] == 0, "what is there now is taken by the next run"


def test_settings_of_other_stages_may_be_edited_meanwhile(workspace):
    edit = "t = open('params.yaml').read(); open('params.yaml', 'w').write(t.replace('domain_tokens: ', 'domain_tokens: 1'))"
    before = (workspace.folder / "params.yaml").read_text()
    code, out, err = workspace.drive(edit)
    assert code == 0, out + err
    assert (workspace.folder / "params.yaml").read_text() != before


def test_a_stage_whose_weights_do_not_fit_the_disk_says_one_thing(workspace):
    # A limit on the size of files stops the real writer as a full disk does: in the middle of the weights.
    body = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000)); "
        "import numpy; from safetensors.numpy import save_file; "
        'save_file({"w": numpy.zeros(1_000_000)}, outputs["base"] / "model.safetensors")'
    )
    code, out, err = workspace.drive(body)
    assert code == 1
    assert "fetch stopped: " in out
    assert "a file would be larger than is allowed here" in out
    assert "Traceback" not in out + err
    assert not {"base", "embedder"} & set(workspace.outputs())


def test_a_failure_shows_where_it_came_from_on_request(workspace):
    workspace.env["RATCHET_TRACEBACK"] = "1"
    code, _, err = workspace.drive('raise ValueError("row 3 holds 7")')
    assert code == 1
    assert "Traceback" in err
    assert "row 3 holds 7" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "usage: python -m tasks.run STAGE [ITEM]"),
        (("a", "b", "c"), 2, "usage: python -m tasks.run STAGE [ITEM]"),
        (("tunee",), 1, "There is no stage 'tunee'. There are: compress, diagnose, evaluate, faults, fetch"),
        (("tune",), 1, "Stage tune has no item None. params.yaml has rounds: r0."),
        (("tune", "r9"), 1, "Stage tune has no item 'r9'. params.yaml has rounds: r0."),
        (("fetch", "r0"), 1, "Stage fetch has no items, but was asked for 'r0'"),
        (("tune", "r0"), 1, "models/pretrained (base) is missing. `dvc repro tune@r0` makes what comes first."),
    ],
)
def test_what_was_asked_for_wrongly_is_answered_in_one_message(workspace, arguments, code, message):
    found, out, err = workspace.stage(*arguments)
    assert found == code
    assert message in out
    assert err == ""


def test_mistakes_in_params_end_in_one_message(workspace):
    text = (workspace.folder / "params.yaml").read_text()
    (workspace.folder / "params.yaml").write_text(text.replace("from: config", "from: config\n    hiden: 8"))
    code, out, err = workspace.stage("fetch")
    assert code == 1
    assert "fetch.model.hiden: there is no such key. Did you mean hidden?" in out
    assert err == ""


def test_a_folder_without_params_ends_in_one_message(workspace):
    (workspace.folder / "params.yaml").unlink()
    code, out, err = workspace.stage("fetch")
    assert (code, err) == (1, "")
    assert "params.yaml: there is no such file" in out


def test_a_store_that_cannot_be_written_ends_in_one_message_before_any_work(workspace):
    (workspace.folder / "mlflow.db").unlink()
    (workspace.folder / "mlflow.db").mkdir()
    code, out, err = workspace.drive()
    assert code == 1
    assert "mlflow.db: MLflow cannot record runs here" in out
    assert "started" not in out
    assert "Traceback" not in err


def test_a_store_that_is_away_stops_no_stage_and_hears_of_it_later(workspace):
    workspace.mlflow = True
    workspace.env |= {
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "1",
    }
    code, _, err = workspace.drive()
    assert code == 0, err
    assert workspace.outputs() == ["base", "embedder"]
    assert workspace.runs == []
    del workspace.env["MLFLOW_TRACKING_URI"]
    workspace.drive("raise ValueError('the second run')")
    assert sorted(run.info.status for run in workspace.runs) == ["FAILED", "FINISHED"]


def test_the_run_of_an_item_names_its_parts_inputs_and_parent(workspace):
    for path in ("models/pretrained", "data/rounds/r0", "data/ingested"):
        (workspace.folder / path).mkdir(parents=True)
    for path in (
        "models/pretrained/config.json",
        "data/rounds/r0/examples.parquet",
        "data/rounds/r0/faults.parquet",
        "data/ingested/valid.parquet",
        "data/ingested/train_documents.parquet",
    ):
        (workspace.folder / path).write_text("{}")
    made = [
        {"path": "models/pretrained", "md5": "a" * 32 + ".dir"},
        {"path": "data/ingested/valid.parquet", "md5": "b" * 32},
    ]
    (workspace.folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"fetch": {"outs": made}}}))
    workspace.env |= {"RATCHET_PARENT": "f" * 32, "RATCHET_FLOW_RUN": "a-flow-run"}
    code, _, err = workspace.drive(stage="tune", arguments=("tune", "r0"))
    assert code == 0, err
    (events,) = workspace.spooled
    start, config, inputs = events[:3]
    assert start["name"] == f"tune@r0 · lora × adamw × cross_entropy · {start['tags']['ratchet.key'][:8]}"
    assert start["parent"] == "f" * 32
    assert start["tags"]["dvc.stage"] == "tune@r0"
    assert start["tags"]["prefect.flow_run_id"] == "a-flow-run"
    assert config["values"]["methods.lora.rank"] == "16"
    assert inputs["values"] == {"models/pretrained": "a" * 32 + ".dir", "data/ingested/valid.parquet": "b" * 32}


def test_unfinished_work_belongs_to_its_inputs_and_settings(workspace):
    folders = []
    for seed in (0, 0, 1):
        config = yaml.safe_load((workspace.folder / "params.yaml").read_text())
        config["fetch"] = {"model": {"from": "config", "seed": seed}}
        (workspace.folder / "params.yaml").write_text(yaml.safe_dump(config))
        _, out, _ = workspace.drive("run.say(str(run.work))")
        folders.append(out.splitlines()[1])
    assert folders[0] == folders[1] != folders[2]
    assert Path(folders[0]).parent.parts == (".ratchet", "work", "fetch")


def test_the_runner_starts_without_the_heavy_libraries():
    code = (
        "import sys, tasks.run\n"
        "heavy = {'torch', 'transformers', 'mlflow', 'datasets', 'prefect', 'dvc', 'polars'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or None)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_two_processes_share_a_training_and_leave_one_model(workspace):
    from tasks.core.records import Document, Example, FaultPair
    from tasks.io import tables
    from tests.tiny import example

    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["compute"] |= {"precision": "fp32", "processes": 2}
    params["tune"] |= {"pack_tokens": 128, "max_tokens": 1000}
    (workspace.folder / "params.yaml").write_text(yaml.safe_dump(params))
    code, _, err = workspace.stage("fetch")
    assert code == 0, err
    shutil.copytree(workspace.folder / "models/base", workspace.folder / "models/pretrained")
    rows = [example(n, prompt=f"Is {n} a number?") for n in range(12)]
    for path in ("data/rounds/r0/examples.parquet", "data/ingested/valid.parquet"):
        (workspace.folder / path).parent.mkdir(parents=True)
        tables.write(workspace.folder / path, rows, Example)
    tables.write(workspace.folder / "data/rounds/r0/faults.parquet", [], FaultPair)
    tables.write(workspace.folder / "data/ingested/train_documents.parquet", [], Document)
    code, out, err = workspace.stage("tune", "r0")
    assert code == 0, out + err
    assert out.count("validation loss") == 1
    assert (workspace.folder / "models/tuned/r0/adapter_model.safetensors").is_file()
    assert len(workspace.runs) == 2, "one for each stage, none for the second process"
