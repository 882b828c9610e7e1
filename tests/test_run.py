"""The runner: one writer, outputs whole or not at all, a true status, and one message where it stops."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WAIT_S = 60

# The runner in its own process, with a stage whose work is `body`: quick, and able to hang, fail or fill the disk.
DRIVER = """
import errno, os, signal, sys, time
import tasks.stages.{stage}.stage as stage
from tasks import run
from tasks.io import carrier
{carrier}

def main(inputs, outputs, settings, run):
    for path in outputs.values():
        path.mkdir()
        (path / "half").write_text("half")
    run.log(1, loss=2.5)
    run.note(fact=7)
    run.say("started")
    {body}

stage.main = main
sys.exit(run.main({arguments}))
"""


class Workspace:
    """A folder with params.yaml and an MLflow store, in which stages run as processes of their own."""

    mlflow = False
    """Whether runs are carried to MLflow, whose import alone takes seconds, or stay in the spool."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = os.environ | {"PYTHONPATH": str(ROOT)}
        self.env.pop("MLFLOW_TRACKING_URI")

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, cwd=self.folder, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def stage(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, output and errors of `python -m tasks.run …`."""
        return self._end(self.start(sys.executable, "-m", "tasks.run", *arguments))

    def driver(self, body: str = "", stage: str = "fetch", arguments: tuple[str, ...] = ("fetch",)) -> str:
        """The path of a script that runs a stage with this body."""
        path = self.folder / f"driver-{len(list(self.folder.iterdir()))}.py"
        carrier = "" if self.mlflow else "carrier.start = lambda: None"
        path.write_text(DRIVER.format(body=body, stage=stage, arguments=list(arguments), carrier=carrier))
        return str(path)

    def drive(self, body: str = "", **options: object) -> tuple[int, str, str]:
        return self._end(self.start(sys.executable, self.driver(body, **options)))

    def hang(self) -> subprocess.Popen[str]:
        """A stage that has begun to write and does not end by itself."""
        process = self.start(sys.executable, self.driver("time.sleep(600)"))
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        return process

    def _end(self, process: subprocess.Popen[str]) -> tuple[int, str, str]:
        out, err = process.communicate(timeout=WAIT_S)
        return process.returncode, out, err

    @property
    def runs(self) -> list:
        """The runs in the store, newest first, when nobody carries any more."""
        from mlflow import MlflowClient

        self.carried()

        client = MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")
        return client.search_runs([client.get_experiment_by_name("ratchet").experiment_id])

    def carried(self) -> None:
        """Carry what waits for the store, or wait for the process that is at it."""
        spool = self.folder / ".ratchet/spool"
        for _ in range(10 * WAIT_S):
            self._end(self.start(sys.executable, "-m", "tasks.io.carrier"))  # ends at once where another carries
            with (spool / "carrier.lock").open("w") as lock, contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if (spool / "outage.txt").exists() or not list(spool.glob("*.jsonl")):
                    return
            time.sleep(0.1)
        raise AssertionError("the runs are not carried")

    @property
    def spooled(self) -> list[list[dict]]:
        """The events of each run that waits in the spool."""
        spools = (self.folder / ".ratchet/spool").glob("*.jsonl")
        return [list(map(json.loads, spool.read_text().splitlines())) for spool in spools]

    @property
    def last_words(self) -> list[str]:
        """The status that each run in the spool ended with."""
        return [events[-1]["status"] for events in self.spooled]

    def outputs(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "models").glob("*"))

    def digests(self) -> dict[str, str]:
        files = sorted(path for path in (self.folder / "models").rglob("*") if path.is_file())
        return {str(f.relative_to(self.folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture
def workspace(tmp_path, empty_store):
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    shipped = yaml.safe_load((ROOT / "params.yaml").read_text())
    shipped |= {"compute": {"threads": 1}, "fetch": {"model": {"from": "config"}}, "rounds": {"r0": {}}, "turns": {}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(shipped))
    return Workspace(tmp_path)


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
    script = workspace.driver("print(os.getpid(), flush=True); time.sleep(600)")
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
    assert "File too large" in out
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
    start, settings, inputs = events[:3]
    assert start["name"] == f"tune@r0 · lora × adamw × cross_entropy · {start['tags']['ratchet.key'][:8]}"
    assert start["parent"] == "f" * 32
    assert start["tags"]["dvc.stage"] == "tune@r0"
    assert start["tags"]["prefect.flow_run_id"] == "a-flow-run"
    assert settings["values"]["methods.lora.rank"] == "16"
    assert inputs["values"] == {"models/pretrained": "a" * 32 + ".dir", "data/ingested/valid.parquet": "b" * 32}


WRITES = "(outputs['pairs'] / 'rows').write_text('1234')"


@pytest.fixture
def rounds(workspace):
    """A workspace of three rounds, of which the first two have equal examples; `faults`, which imports little, runs in it."""
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["rounds"] = {name: {} for name in ("r0", "r1", "r2")}
    params["turns"] = {"r1": {"prev": "r0"}, "r2": {"prev": "r1"}}
    (workspace.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for path in ("models/pretrained/config.json", "data/raw/README.md"):
        (workspace.folder / path).parent.mkdir(parents=True)
        (workspace.folder / path).write_text("{}")
    for name in params["rounds"]:
        (workspace.folder / f"data/rounds/{name}").mkdir(parents=True)
        examples = workspace.folder / f"data/rounds/{name}/examples.parquet"
        examples.write_text("others" if name == "r2" else "equal")
    return workspace


def faults(rounds, name, body=WRITES):
    """What stage `faults` prints for this round. Its outputs are folders here, which says more."""
    code, out, err = rounds.drive(body, stage="faults", arguments=("faults", name))
    assert code == 0, err
    return out


def test_a_round_that_changed_nothing_takes_over_what_the_other_made(rounds):
    faults(rounds, "r0")
    said = faults(rounds, "r1", "raise AssertionError('this costs something')")
    assert said == "faults@r1: its inputs, settings and code are those of faults@r0, whose outputs it takes over\n"
    assert (rounds.folder / "data/rounds/r1/faults.parquet/rows").read_text() == "1234"
    taken = next(events for events in rounds.spooled if events[0]["tags"]["dvc.stage"] == "faults@r1")
    assert {"taken_over_from": "faults@r0"} in [event["values"] for event in taken if event["kind"] == "params"]
    assert taken[-1]["status"] == "FINISHED"


def test_what_was_taken_over_is_taken_over_in_turn(rounds):
    faults(rounds, "r0")
    faults(rounds, "r1")
    shutil.rmtree(rounds.folder / "data/rounds/r0/faults.parquet")
    assert "those of faults@r1" in faults(rounds, "r0")


def test_a_copy_stands_alone_and_can_be_written(rounds):
    faults(rounds, "r0")
    theirs = rounds.folder / "data/rounds/r0/faults.parquet/rows"
    theirs.chmod(0o444)  # as DVC leaves what it links to its cache
    faults(rounds, "r1")
    own = rounds.folder / "data/rounds/r1/faults.parquet/rows"
    assert own.stat().st_ino != theirs.stat().st_ino
    assert own.stat().st_mode & 0o200


def test_a_round_of_other_examples_is_looked_at(rounds):
    faults(rounds, "r0")
    assert faults(rounds, "r2") == "started\n"


def test_other_settings_are_other_work(rounds):
    faults(rounds, "r0")
    params = yaml.safe_load((rounds.folder / "params.yaml").read_text())
    params["faults"]["seed"] = 1
    (rounds.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    assert faults(rounds, "r1") == "started\n"


@pytest.mark.parametrize("damage", ["changed", "cut", "gone", "more", "no record", "torn record"])
def test_outputs_that_are_not_whole_are_not_taken_over(rounds, damage):
    faults(rounds, "r0")
    rows, record = rounds.folder / "data/rounds/r0/faults.parquet/rows", rounds.folder / ".ratchet/made/faults@r0.json"
    times = rows.stat()
    match damage:
        case "changed":
            rows.write_text("1235")
            os.utime(rows, ns=(times.st_atime_ns, times.st_mtime_ns))  # a digest by size and time would not see it
        case "cut":
            rows.write_text("123")
        case "gone":
            shutil.rmtree(rows.parent)
        case "more":
            rows.with_name("more").touch()
        case "no record":
            record.unlink()
        case "torn record":
            record.write_text(record.read_text()[:20])
    assert faults(rounds, "r1") == "started\n"
    assert (rounds.folder / "data/rounds/r1/faults.parquet/rows").read_text() == "1234"


@pytest.fixture
def at_once(rounds):
    """Starts `faults` for the first two rounds, which are equal, so that the second finds the first at work.

    Gives back what the second prints once the first, which waits for it, goes on with `then`.
    """

    def start(then):
        def begin(name, body):
            return rounds.start(sys.executable, rounds.driver(body, stage="faults", arguments=("faults", name)))

        first = begin("r0", f"while not os.path.exists('go'): time.sleep(0.05)\n    {then}")
        assert first.stdout.readline() == "started\n"
        second = begin("r1", WRITES)
        assert second.stdout.readline() == "faults@r1: an equal faults is at work; waiting for what it makes\n"
        (rounds.folder / "go").touch()
        out, err = second.communicate(timeout=WAIT_S)
        first.communicate(timeout=WAIT_S)
        assert second.returncode == 0, err
        assert not list((rounds.folder / ".ratchet/locks").glob("faults-*"))
        return out

    return start


def test_of_equal_rounds_at_once_one_waits_for_the_other(at_once):
    assert at_once(WRITES).endswith("whose outputs it takes over\n")


def test_a_round_does_not_wait_in_vain_for_an_equal_one_that_fails(at_once):
    assert at_once("raise ValueError('no')") == "started\n"


def test_unfinished_work_belongs_to_its_inputs_and_settings(workspace):
    folders = []
    for seed in (0, 0, 1):
        settings = yaml.safe_load((workspace.folder / "params.yaml").read_text())
        settings["fetch"] = {"model": {"from": "config", "seed": seed}}
        (workspace.folder / "params.yaml").write_text(yaml.safe_dump(settings))
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
    from tasks.core.records import Example, FaultPair
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
    code, out, err = workspace.stage("tune", "r0")
    assert code == 0, out + err
    assert out.count("validation loss") == 1
    assert (workspace.folder / "models/tuned/r0/adapter_model.safetensors").is_file()
    assert len(workspace.runs) == 2, "one for each stage, none for the second process"
