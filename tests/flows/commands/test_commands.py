"""The command line: what it offers, what it writes, what it refuses."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

import pytest
import yaml

from flows import commands
from flows.execution import ports, workspace_lease
from tasks import methods
from tasks.core.training import FAMILIES
from tests.flows.conftest import ROOT


@pytest.fixture
def project(done):
    """A finished workspace with the profiles and the folder for own data."""
    shutil.copytree(ROOT / "params", done.path("params"))
    done.path("data/raw").mkdir(parents=True)
    return done


@pytest.mark.parametrize("name", commands.full_names())
def test_every_command_has_help_with_an_example(name, capsys):
    with pytest.raises(SystemExit) as end:
        commands.main([*name.split(), "--help"])
    assert not end.value.code
    assert "Example: ratchet " in " ".join(capsys.readouterr().out.split())


def test_help_is_there_at_once_and_loads_nothing_heavy(workspace):
    start = time.perf_counter()
    done = workspace.run("flows.commands", "--help")
    assert time.perf_counter() - start < 2  # 0.1 s on a free core
    assert all(name in done.stdout for name in commands.names())
    program = "import sys, flows.commands as c; c.application(); print([m for m in ('prefect', 'dvc', 'mlflow', 'pydantic', 'yaml') if m in sys.modules])"
    assert workspace.run("timeit", "-n1", "-r1", program).stdout.splitlines()[0] == "[]"


@pytest.mark.parametrize("command", ["verify --evidence . --key key.pem", "compare-logs ."])
def test_no_module_of_the_folder_that_one_stands_in_is_imported(command, tmp_path):
    """The folder may be someone else's evidence or logs. `-P` is how the installed script begins."""
    for name in ("yaml", "pydantic", "scipy", "orjson", "simplejson"):
        (tmp_path / f"{name}.py").write_text(f"import sys; sys.exit('{name} was imported')")
    program = "from flows.commands import main; main()"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = [sys.executable, "-P", "-c", program, *command.split()]
    done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "was imported" not in done.stderr
    assert done.returncode != 0, "there is nothing to look at"
    assert done.stderr.count("\n") <= 1, done.stderr


def test_a_traceback_is_there_for_who_asks(workspace):
    workspace.path("params.yaml").unlink()
    assert workspace.run("flows.commands", "plan").stderr.startswith("params.yaml: there is no such file")
    assert "Traceback" in workspace.run("flows.commands", "plan", RATCHET_TRACEBACK="1").stderr


def test_the_plan_is_a_table_or_json(done):
    done.edit("params.yaml", "threads: 2", "threads: 1")
    assert done.ratchet("plan").splitlines()[0] == "one   run         compute.threads: 2 → 1"
    steps = json.loads(done.ratchet("plan", "--json"))["stages"]
    assert [step["state"] for step in steps] == ["run", "may change", "unchanged", "may change"]


def test_a_profile_is_put_in_use(project):
    project.ratchet("use", "micro")
    assert project.path("params.yaml").read_bytes() == (ROOT / "params/micro.yaml").read_bytes()


def test_a_profile_that_needs_something_first_says_so(project):
    assert "sudo apt-get install erlang-doc\n" in project.ratchet("use", "telecom")


@pytest.mark.parametrize("command", ["use micro --force", "rounds 2", "init own.jsonl", "new --yes --force"])
def test_settings_that_a_flow_at_work_reads_are_not_written(project, command):
    rows(project.path("own.jsonl"), 12)
    before = project.path("params.yaml").read_bytes()
    with workspace_lease.acquired():
        refused = project.run("flows.commands", *command.split())
    assert refused.returncode == 1
    assert f"process {os.getpid()}) works in this workspace" in refused.stderr
    assert project.path("params.yaml").read_bytes() == before
    assert list(project.path("data/raw").iterdir()) == []


def test_edits_are_not_overwritten_unless_asked(project):
    with project.path("params.yaml").open("a") as file:
        file.write("# mine\n")
    refused = project.run("flows.commands", "use", "micro")
    assert refused.returncode == 1
    assert "ratchet use micro --force" in refused.stderr
    assert project.path("params.yaml").read_text().endswith("# mine\n")
    project.ratchet("use", "micro", "--force")


def test_an_unknown_profile_gets_near_matches(project):
    assert "Did you mean micro?" in project.run("flows.commands", "use", "mikro").stderr


def rows(path, count, extra=()):
    lines = [json.dumps({"prompt": f"what is {number}?", "completion": str(number)}) for number in range(count)]
    path.write_text("\n".join([*lines, *extra]))
    return str(path)


def test_own_rows_are_shown_copied_and_named(project, tmp_path):
    said = project.ratchet("init", rows(tmp_path / "own.jsonl", 12, ["no json", '{"a": 1}']))
    assert said.count("→ ") == 5
    assert "line 13: not JSON" in said
    assert "of 14 records read, 12 can be used; refused: 1 not JSON, 1 unknown shape" in said
    config = yaml.safe_load(project.path("params.yaml").read_text())
    assert config["ingest"]["sources"] == [{"from": "file", "path": "data/raw/own.jsonl", "check": "number"}]
    assert '── check of the answers: "number": 12 of 12 answers are numbers' in said
    assert config["ingest"]["corpora"]["domain"] == []
    assert project.path("data/raw/own.jsonl").read_bytes() == (tmp_path / "own.jsonl").read_bytes()
    assert "# SmolLM2-135M-Instruct learns to write the functions" in project.path("params.yaml").read_text()


def test_columns_that_are_not_used_are_reported(project, tmp_path):
    beside = {f"note {n}": "x" for n in range(14)}
    given = [{"question": f"{n}?", "context": f"It is {n}.", "answer": f"It is so, {n}."} | beside for n in range(6)]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, given)))
    said = project.ratchet("init", str(tmp_path / "own.jsonl"))
    assert "0? It is 0.\n→ It is so, 0.\n" in said.replace("?\n\nIt", "? It")
    assert "── not used: note 0, note 1, " in said
    assert "note 11, and 2 others\n" in said


def test_secrets_in_own_rows_are_counted_and_not_shown(project, tmp_path):
    token = "ghp_" + "aB3dE5gH7jK9mN2pQ4rS6tU8vW0xY1zA2bC3"
    secret = json.dumps({"prompt": f"use {token}", "completion": "Sent to anna.schmidt@web.de"})
    said = project.ratchet("init", rows(tmp_path / "own.jsonl", 12, [secret, f"no json {token}"]))
    assert "── secrets and personal data: 1 github-token, 1 e-mail-address." in said
    assert token not in said


def test_both_sides_of_a_pair_and_the_label_of_an_answer_are_shown(project, tmp_path):
    pairs = [{"prompt": f"{n}?", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(6)]
    labels = [{"prompt": f"{n}?", "completion": f"answer {n}", "label": n % 2 == 0} for n in range(6)]
    for name, given in (("pairs", pairs), ("labels", labels)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, given)))
    said = project.ratchet("init", str(tmp_path / "pairs.jsonl"))
    assert "0?\n→ chosen: good 0\n→ rejected: bad 0\n" in said
    said = project.ratchet("init", str(tmp_path / "labels.jsonl"))
    assert "0?\n→ desirable: answer 0\n" in said
    assert "1?\n→ undesirable: answer 1\n" in said


def test_columns_of_other_names_are_asked_for_and_taken(project, tmp_path):
    lines = ["Frage;Antwort", *(f"Wie heißt die Mehrzahl von Wort {n}?;Wörter, zum {n}. Mal" for n in range(9))]
    (tmp_path / "fragen.csv").write_bytes("\n".join(lines).encode("latin-1"))
    refused = project.run("flows.commands", "init", str(tmp_path / "fragen.csv"))
    assert refused.returncode == 1
    assert "Take --prompt 'Frage' --response 'Antwort'? ('Frage' is a word for a prompt" in refused.stderr
    assert "--yes" in refused.stderr
    said = project.ratchet("init", str(tmp_path / "fragen.csv"), "--yes")
    assert "fragen.csv: CSV (semicolon), cp1252" in said
    assert "of 9 records read, 9 can be used" in said
    config = yaml.safe_load(project.path("params.yaml").read_text())
    (source,) = config["ingest"]["sources"]
    assert source["path"] == "data/raw/fragen.csv"
    assert source["columns"] == {"prompt": "Frage", "response": "Antwort"}


def test_own_code_becomes_examples_and_corpus(project, tmp_path):
    for number in range(10):
        module = tmp_path / "own" / f"m{number}.py"
        module.parent.mkdir(exist_ok=True)
        module.write_text(
            f'def add{number}(a):\n    """The sum.\n\n    >>> add{number}(1)\n    {number + 2}\n    """\n    return a + {number + 1}\n'
        )
    project.ratchet("init", str(tmp_path / "own"))
    config = yaml.safe_load(project.path("params.yaml").read_text())
    assert config["ingest"]["sources"] == [{"from": "folder", "path": "data/raw/own", "functions": "documented"}]
    assert config["ingest"]["splits"]["by"] == "name"
    assert config["ingest"]["corpora"]["domain"] == [{"from": "folder", "path": "data/raw/own"}]


def test_own_texts_become_the_corpus_and_the_examples_stay(project, tmp_path):
    (tmp_path / "own").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / f"own/{name}.md").write_text(f"# {name}\n\nText.\n")
    before = yaml.safe_load(project.path("params.yaml").read_text())
    assert "texts alone" in project.ratchet("init", str(tmp_path / "own"))
    after = yaml.safe_load(project.path("params.yaml").read_text())
    assert after["ingest"]["sources"] == before["ingest"]["sources"]
    assert after["ingest"]["corpora"]["domain"] == [{"from": "folder", "path": "data/raw/own"}]


@pytest.mark.parametrize(
    ("name", "count", "told"),
    [
        ("none.jsonl", None, "there is no such file"),
        ("notes.docx", 12, "no text can be used"),
        ("tool.sh", 12, "expected a table"),
        ("few.jsonl", 2, "too few"),
        ("broken.parquet", 12, "not a Parquet file"),
    ],
)
def test_what_cannot_be_used_is_told_and_nothing_is_changed(project, tmp_path, name, count, told):
    if count:
        rows(tmp_path / name, count)
    before = project.path("params.yaml").read_bytes()
    refused = project.run("flows.commands", "init", str(tmp_path / name))
    assert refused.returncode == 1
    assert told in refused.stderr
    assert "Traceback" not in refused.stderr
    assert project.path("params.yaml").read_bytes() == before
    assert list(project.path("data/raw").iterdir()) == []


def test_the_doctor_finds_what_is_wrong_and_says_the_fix(done):
    done.path(".dvc/tmp/rwlock").write_text('{"write": {')
    done.edit("params.yaml", "threads: 2", "threads: none")
    sick = done.run("flows.commands", "doctor", PREFECT_API_URL="http://127.0.0.1:9/api")
    assert sick.returncode == 3
    assert "✗ params.yaml:2: compute.threads" in sick.stdout
    assert "no Prefect server answers at http://127.0.0.1:9/api" in sick.stdout
    assert "`ratchet run` and `ratchet tidy` repair it" in sick.stdout
    assert "✓ the graph is valid: 4 stages" in sick.stdout
    assert sys.version.split()[0] in sick.stdout


@pytest.mark.parametrize("place", ["dvc.lock", ".dvc/tmp/rwlock"])
def test_the_doctor_says_what_it_finds_though_a_file_is_refused(done, place):
    done.path(place).unlink(missing_ok=True)
    done.path(place).mkdir()
    done.edit("params.yaml", "threads: 2", "threads: none")
    sick = done.run("flows.commands", "doctor")
    assert sick.returncode == 3
    assert f"✗ [Errno 21] Is a directory: '{place}'" in sick.stdout
    assert "✗ params.yaml:2: compute.threads" in sick.stdout
    assert "✓ MLflow store" in sick.stdout


def test_the_doctor_says_the_one_command_that_a_machine_without_a_sandbox_lacks(monkeypatch):
    from flows.commands import doctor
    from tasks.io import sandbox

    weak = sandbox.Level(1, "limits", "unshare: Operation not permitted", "sudo apt-get install -y bubblewrap")
    monkeypatch.setattr(sandbox, "probe", lambda: weak)
    (finding,) = doctor._sandbox()
    assert (finding.state, finding.fix) == ("limited", "sudo apt-get install -y bubblewrap")
    assert "pass@1 reads “not run”; missing: unshare: Operation not permitted" in finding.what


def test_methods_are_listed_by_family_with_paper_and_what_is_known(project):
    said = project.ratchet("methods", "adapters")
    assert said.splitlines()[0] == "adapters"
    assert "https://arxiv.org/abs/2106.09685 · merges · wraps peft.LoraConfig" in said
    assert "selectors" not in said
    everything = project.ratchet("methods")
    assert all(f"\n{family}\n" in f"\n{everything}" for family in methods.families())
    assert project.ratchet("methods", "lisa").splitlines()[0] == "selectors"


@pytest.mark.parametrize(("wrong", "meant"), [("lorra", "lora"), ("adapter", "adapters")])
def test_an_unknown_method_or_family_gets_near_matches(project, wrong, meant):
    done = project.run("flows.commands", "methods", wrong)
    assert done.returncode == 1
    assert f"Did you mean {meant}" in done.stderr


def test_the_doctor_says_what_several_gpus_can_share(project):
    project.ratchet("use", "micro")
    said = project.ratchet("doctor", "--gpus", "4")
    assert "tune (adamw × cross_entropy) runs under FSDP on 4 GPUs" in said
    assert "processes: 4, fsdp: true" in said
    project.edit(
        "params.yaml",
        "  selector: all\n  optimizer: adamw\n  objective: cross_entropy\n  sparsifier: none\n  max_tokens: 2000",
        "  selector: lisa\n  optimizer: adamw\n  objective: cross_entropy\n  sparsifier: none\n  max_tokens: 2000",
    )
    project.edit("params.yaml", "  all: {}", "  all: {}\n  lisa: {}")
    said = project.ratchet("doctor", "--gpus", "4")
    assert "tune (lisa × adamw × cross_entropy) does not run under DDP: " in said


def test_the_doctor_has_a_row_for_each_method_that_several_gpus_may_have_to_share(workspace):
    program = (
        "import sys, flows.commands.doctor as d; d._show(d.DoctorReport([], list(d._gpu_support()))); "
        "print(sorted({'torch', 'transformers', 'peft', 'mlflow'} & set(sys.modules)))"
    )
    _, *rows, heavy = workspace.run("timeit", "-n1", "-r1", program).stdout.splitlines()[:-1]
    assert heavy == "[]"
    found = {name: " ".join(rest) for _, name, *rest in map(str.split, rows) if name not in ("none", "all")}
    training = {name for family in FAMILIES for name in methods.names(family)}
    assert found.keys() == training - {"none", "all"}
    assert found["lora"] == "✓ ✓"
    assert found["lisa"].startswith("✗ ✗ what trains changes from step to step")
    assert found["nf4"] == found["int8"] == "✓ ✗ FSDP cannot cut quantised weights"
    assert found["mezo"] == "✓ ✗ it moves whole weights, and FSDP has cut them"
    assert found["exact_match"] == "✓ ✗ optimizers without gradient move whole weights, and FSDP has cut them"
    for row in rows:
        family, name, ddp, fsdp, *_ = row.split()
        assert (ddp == "✓", fsdp == "✓") == tuple(not methods.alone({family: name}, fsdp=cut) for cut in (False, True))


def test_the_pages_of_mlflow_open_on_our_runs(done):
    port = ports.free_port()
    process = done.start("flows.commands", "ui", "--port", str(port))
    try:
        base = f"http://127.0.0.1:{port}"
        wait_for(lambda: ports.port_owner(port) is not None)
        wait_for(lambda: urllib.request.urlopen(base, timeout=5).status == 200)
        asked = f"{base}/api/2.0/mlflow/experiments/get-by-name?experiment_name=ratchet"
        experiment = json.load(urllib.request.urlopen(asked, timeout=30))["experiment"]["experiment_id"]
        assert (
            f"Runs: {base}/#/experiments/{experiment}/runs?viewStateShareKey=ratchet&workflowType=machine_learning"
            in done.printed()
        )
        taken = done.run("flows.commands", "ui", "--port", str(port))
        assert taken.returncode == 1
        assert f"ratchet ui --port {port + 1}" in taken.stderr
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
    wait_for(lambda: ports.port_owner(port) is None)


def test_a_store_that_is_a_server_has_pages_of_its_own(done):
    told = done.run("flows.commands", "ui", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert told.returncode == 1
    assert "http://127.0.0.1:9 is a server with pages of its own" in told.stderr
    assert "Traceback" not in told.stderr


def wait_for(holds):
    """Return when `holds` does, within five minutes: a server's start takes one where twenty processes share the machine."""
    for _ in range(3000):
        with contextlib.suppress(OSError):
            if holds():
                return
        time.sleep(0.1)
    raise AssertionError("it did not come to hold")
