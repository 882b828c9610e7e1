"""The commands of README and documentation run in a workspace as a reader would run them: each once, page by page."""

import contextlib
import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import duckdb
import polars as pl

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    "docs/pages/tutorials/own-data.md",
    "docs/pages/tutorials/first-run.md",
    "docs/pages/tutorials/nightly.md",
    "docs/pages/tutorials/comparing.md",
)
"""Pages in the order in which they are walked; all others follow in the order of their names."""
MODELS = """models:
  base: {group: reference, path: models/base, base: models/base}
  r0: {group: rounds, path: models/tuned/r0, base: models/pretrained}
  r1: {group: rounds, path: models/tuned/r1, base: models/pretrained}
"""
"""The models that are measured: the base and every round."""
LAST = ROOT / "docs/pages/how-to/own-data.md"
"""It takes one file after the other into use."""
TRAINED_ELSEWHERE = "tests/end_to_end/test_compare.py runs a comparison to its end"
NOT_RUN = {
    "make run": "its parts are run here; with the default profile it takes ten minutes and more",
    "make test": "it runs this test",
    "git clone … ratchet && cd ratchet": "this checkout is that clone",
    "git push": "there is no remote",
    "ratchet up": "tests/flows/test_serve.py starts it and runs its deployments",
    "prefect deployment run pipeline/workstation --watch": "tests/flows/test_serve.py",
    "ratchet serve": "tests/flows/gateway/test_serve.py serves a champion through a promotion and a rollback",
    "ratchet serve champion r0 2 --port 8001": "tests/flows/gateway/test_serve.py; a server runs until it is stopped",
    'pip install -e ".[serve]" -c constraints.txt': "it changes the environment, which has it",
    "ratchet review --web": "tests/flows/review_page: a server that runs until it is stopped",
    "ratchet open mlflow": "tests/flows/commands/test_open.py: a server that runs until it is stopped",
    "ratchet new": "it asks on a terminal, as in tests/flows/commands/test_new.py",
    "ratchet new --data questions.jsonl --goal loop --yes": "it would replace the settings of this workspace; tests/flows/commands/test_new.py",
    'pip install -e ".[lm-eval]" -c constraints.txt': "it changes the environment; tests/io/test_harness.py has a stand-in",
    "torchrun --standalone --nproc-per-node 4 -m tasks.run tune r0": "tests/test_nodes.py runs it with two processes",
    "RATCHET_RENDEZVOUS=10.0.0.1:29400 ratchet run": "it waits for another machine; tests/test_nodes.py",
    "RATCHET_RENDEZVOUS=10.0.0.1:29400 ratchet join tune@r0": "no first node is there; tests/test_nodes.py",
    'ratchet init postgresql://reader@db.example.org/support --query "SELECT question, answer FROM tickets ORDER BY id"': "no PostgreSQL",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL=postgresql+asyncpg://user:password@host/ratchet ratchet up": "no PostgreSQL",
    "export PREFECT_API_URL=https://prefect.example.org/api": "a shell's own setting",
    "prefect work-pool create ratchet --type process": "tests/flows/test_prefect_yaml.py creates it, deploys to it and works it off",
    "prefect work-pool update ratchet --concurrency-limit 1": "it needs that pool",
    "prefect deploy --all": "tests/flows/test_prefect_yaml.py",
    "prefect worker start --pool ratchet": "a worker runs until it is stopped",
    "prefect deployment run pipeline/workstation": "no worker is there to run it",
    "prefect work-pool create ratchet --type docker": "there is no Docker",
    "export MLFLOW_TRACKING_URI=http://127.0.0.1:5000": "a shell's own setting",
    "export PREFECT_API_URL=http://127.0.0.1:4200/api": "a shell's own setting",
    "export PREFECT_API_AUTH_STRING=someone:password": "a shell's own setting; tests/flows/test_secrets.py",
    "export MLFLOW_TRACKING_USERNAME=someone": "a shell's own setting",
    "export MLFLOW_TRACKING_PASSWORD=password": "a shell's own setting",
    "export MLFLOW_TRACKING_URI=postgresql://user:password@host/mlflow": "no PostgreSQL",
    "ratchet use reasoning": "it would replace the settings of this workspace; tests/end_to_end/test_profiles.py takes profiles into use",
    "ratchet use tools": "it would replace the settings of this workspace; tests/end_to_end/test_profiles.py takes profiles into use",
    "ratchet use unittests": "it would replace the settings of this workspace; tests/end_to_end/test_profiles.py plans that profile",
    "ratchet compare unittests": TRAINED_ELSEWHERE,
    "ratchet use telecom-qlora": "it would replace the settings of this workspace; tests/end_to_end/test_profiles.py plans that profile",
    'pip install -e ".[quantize]" -c constraints.txt': "it changes the environment, which has it",
    "ratchet use tiny": "tests/end_to_end/test_tiny.py runs that profile",
    "ratchet sweep --set methods.lora.rank=8,16,32 --set tune.seed=0..2 --take": TRAINED_ELSEWHERE,
    "ratchet why 3 4 --bisect": "tests/end_to_end/test_night.py bisects versions 1 and 2",
    "ratchet compare-logs results/base results/tuned --group subject --page comparison.html": (
        "tests/flows/experiments/test_log_comparison.py reads such folders"
    ),
    "ratchet report 3 champion": "one version was promoted here; tests/flows/experiments/test_report_page.py compares two",
    "ratchet data diff HEAD~1": "tests/flows/commands/test_data.py compares two revisions",
    "ratchet --install-completion": "it edits the start-up files of the shell that it runs in",
    "ratchet --show-completion": "it asks which shell it runs in",
    "ratchet monitor data/incoming/monday.jsonl": "it needs an embedder, which the profile lacks; tests/test_monitor.py",
    "ratchet evidence": "pages before it changed what the champion was made from; tests/flows/registry/test_evidence.py",
    'pip install -e ".[evidence]" -c constraints.txt': "it changes the environment, which has it",
    "dvc pull": "tests/end_to_end/test_tiny.py hands a run over",
    "ratchet restore ../backups": "this workspace is not empty; tests/flows/registry/test_backup.py restores in a clone",
    "make install && source .venv/bin/activate": "this test runs in such an environment",
}
"""Commands that cannot run here → the reason."""
INSTEAD = {
    "ratchet rollback --to 3": "ratchet rollback --to 1",
    "ratchet init shop.duckdb": "ratchet init shop.duckdb --yes",
    "ratchet data show 3f2a9c10": """ratchet data show $(ratchet data sql "SELECT id FROM examples LIMIT 1" | tail -1)""",
    "ratchet report HEAD~3:r0 r0": (
        "git add dvc.lock && git commit --quiet --allow-empty --message run && ratchet report HEAD:r0 r0"
    ),
    "ratchet evidence r0": "ratchet run && ratchet evidence r0",
    "dvc plots diff --open": "dvc plots diff",
    "ratchet rounds 3": "ratchet rounds 2",
    "ratchet compare lora loldu s2ft lisa": "ratchet compare lora loldu s2ft lisa --dry",
    "ratchet compare forgetting": "ratchet compare forgetting --dry",
}
"""Starts of commands whose numbers are examples, or that train for long → what runs. """
REVIEW = {"ratchet review": "q\n", "ratchet chat": "What is 1 + 1?\n"}
"""Starts of commands that ask → what is typed."""


def commands(page: Path) -> Iterator[str]:
    """Yield the commands of a page: lines of its code blocks without language, up to their comments."""
    for language, block in re.findall(r"^ *```(\S*)\n(.*?)^ *```$", page.read_text(encoding="utf-8"), re.M | re.S):
        for line in block.splitlines() if not language else ():
            command = re.sub(r"\s+#.*", "", line).strip()
            if re.match(
                r"(\w+=\S+ )?(ratchet|dvc|git|make|prefect|torchrun|pip|export|python|model_signing|mlcroissant)\b",
                command,
            ):
                yield command


def pages() -> list[Path]:
    """Return README and the pages of the site, but the reference, whose commands are synopses."""
    others = sorted(set((ROOT / "docs/pages").rglob("*.md")) - {ROOT / page for page in PAGES} - {LAST})
    return [
        ROOT / "README.md",
        *(ROOT / page for page in PAGES),
        *(page for page in others if page.parent.name != "reference"),
        LAST,
    ]


def test_every_reason_for_not_running_a_command_is_about_a_command():
    written = {command for page in pages() for command in commands(page)}
    assert set(NOT_RUN) <= written
    assert all(any(command.startswith(start) for command in written) for start in (*INSTEAD, *REVIEW))


def test_the_commands_run_as_they_are_written(workspace, prefect):
    copy = workspace("micro", PREFECT_API_URL=prefect)
    copy.set("test: 0.25", "test: 0.25, gate: 0.25")
    copy.set("text_tokens: 500", "text_tokens: 8000")
    copy.set("models: {}\n", MODELS)
    rows = (copy.folder / "params/micro-data/questions.jsonl").read_text().splitlines()
    (copy.folder / "questions.jsonl").write_text("\n".join([*rows, "no json", json.dumps({"foo": 1})]) + "\n")
    (copy.folder / "data/incoming").mkdir(parents=True, exist_ok=True)
    (copy.folder / "data/incoming/monday.jsonl").write_text("\n".join(rows[:20]) + "\n")
    write_own_files(copy.folder)
    logs = ROOT / "tests/flows/experiments/data/logs"
    for size in ("small", "large"):
        shutil.copyfile(logs / f"sums-{size}.eval", copy.folder / f"{size}.eval")
    known = set(NOT_RUN)
    for page in pages():
        for command in commands(page):
            if command not in known:
                known.add(command)
                said = run(copy, command)
                assert said.returncode == 0, f"{page.relative_to(ROOT)}: {command}\n{said.stdout}{said.stderr}"


def write_own_files(folder: Path) -> None:
    """Write the files that the page on one's own data takes."""
    rows = pl.DataFrame(
        {"frage": [f"What is {n} + 1?" for n in range(40)], "antwort": [f"It is {n + 1}." for n in range(40)]}
    )
    rows.rename({"frage": "Frage", "antwort": "Antwort"}).write_csv(folder / "fragen.csv")
    tickets = rows.rename({"frage": "subject", "antwort": "final reply"})
    tickets.with_columns(body=pl.lit("I need it today.")).write_parquet(folder / "tickets.parquet")
    turns = [
        json.dumps([{"role": "user", "content": asked}, {"role": "assistant", "content": said}])
        for asked, said in rows.rows()
    ]
    pl.DataFrame({"verlauf": turns}).write_csv(folder / "chats.csv")
    judged = rows.rename({"antwort": "besser"}).with_columns(schlechter=pl.lit("I do not know."))
    judged.write_csv(folder / "urteile.csv")
    with contextlib.closing(sqlite3.connect(folder / "chats.sqlite")) as database, database:
        database.execute("create table chats (question text, answer text)")
        database.executemany("insert into chats values (?, ?)", rows.rows())
    with duckdb.connect(str(folder / "shop.duckdb")) as shop:
        shop.execute("create table chats (id integer, frage text, antwort text)")
        shop.executemany("insert into chats values (?, ?, ?)", [(n, *row) for n, row in enumerate(rows.rows())])


def run(copy, command: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in the workspace, with the programs of this environment."""
    for start, other in INSTEAD.items():
        command = command.replace(start, other, 1)
    typed = next((text for start, text in REVIEW.items() if command.startswith(start)), "")
    signed = {f"GIT_{who}_{what}": "t@t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = copy.environment | signed | {"PYTHONPATH": str(copy.folder)}
    return subprocess.run(
        command, shell=True, cwd=copy.folder, env=environment, input=typed, capture_output=True, text=True, check=False
    )
