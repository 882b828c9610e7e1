"""`ratchet init` asks on a terminal before it takes a guess, and takes files from elsewhere."""

import functools
import http.server
import io
import json
import logging
import shutil
import sqlite3
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from flows.commands import init as command
from flows.project import data_import
from tasks.stages.ingest.preview import command as preview_command
from tests.io.sources import strangers

ROOT = Path(__file__).resolve().parents[3]
LINES = ["Frage;Antwort", *(f"Wie heißt die Mehrzahl von Wort {n}?;Wörter, zum {n}. Mal" for n in range(9))]


class Terminal(io.StringIO):
    """A terminal at which somebody has typed this."""

    def isatty(self):
        return True


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A workspace in which the preview, a process of its own elsewhere, is a call."""

    def view(sources, limits):
        return json.loads(json.dumps(preview_command.previewed(sources.as_json(), limits or preview_command.LIMITS)))

    monkeypatch.setattr(data_import, "preview", view)
    folder = tmp_path / "workspace"
    folder.mkdir()
    shutil.copyfile(ROOT / "params.yaml", folder / "params.yaml")
    shutil.copytree(ROOT / "params", folder / "params", ignore=shutil.ignore_patterns("*-data"))
    monkeypatch.chdir(folder)
    (tmp_path / "fragen.csv").write_text("\n".join(LINES))
    return folder


def sources(workspace):
    return yaml.safe_load((workspace / "params.yaml").read_text())["ingest"]["sources"]


def test_on_a_terminal_the_guess_is_asked_for_and_taken(workspace, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", Terminal("\n"))
    command.init(str(tmp_path / "fragen.csv"))
    said = capsys.readouterr().out
    assert "Take --prompt 'Frage' --response 'Antwort'? ('Frage' is a word for a prompt" in said
    assert "[Y/n]" in said
    assert "of 9 records read, 9 can be used" in said
    assert sources(workspace)[0]["columns"] == {"prompt": "Frage", "response": "Antwort"}


def test_on_a_terminal_no_is_an_answer_that_changes_nothing(workspace, tmp_path, monkeypatch):
    before = (workspace / "params.yaml").read_bytes()
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    with pytest.raises(
        ValueError, match=r"Nothing was changed; name the columns with\n  ratchet init .*--prompt COLUMN"
    ):
        command.init(str(tmp_path / "fragen.csv"))
    assert (workspace / "params.yaml").read_bytes() == before
    assert not (workspace / "data").exists()


def test_own_data_leave_the_settings_of_generated_tasks_unless_they_were_edited(workspace, tmp_path, capsys):
    params = workspace / "params.yaml"
    shutil.copyfile(workspace / "params/reasoning.yaml", params)
    edited = params.read_text().replace("seed: 0", "seed: 1")
    command.init(str(tmp_path / "fragen.csv"), yes=True)
    assert "now those of profile workstation" in capsys.readouterr().out
    settings, profile = (yaml.safe_load(file.read_text()) for file in (params, workspace / "params/workstation.yaml"))
    assert settings["ingest"].pop("sources") != profile["ingest"].pop("sources")
    assert settings["refine"] == profile["refine"]
    params.write_text(edited)
    with pytest.raises(ValueError, match=r"no source of `ingest\.sources` generates any"):
        command.init(str(tmp_path / "fragen.csv"), yes=True)
    assert params.read_text() == edited, "what was edited stays"


def test_data_that_are_named_no_longer_are_reported(workspace, tmp_path, capsys):
    texts = tmp_path / "notes"
    texts.mkdir()
    for name in ("a", "b", "c"):
        (texts / f"{name}.md").write_text(f"# {name}\n\nText.\n")
    command.init(str(tmp_path / "fragen.csv"), yes=True)
    assert "They replace" not in capsys.readouterr().out, "the profile's own data"
    command.init(str(texts))
    said = capsys.readouterr().out
    assert "They replace" not in said
    assert "the examples stay those that were named before" in said
    shutil.copyfile(tmp_path / "fragen.csv", tmp_path / "mehr.csv")
    command.init(str(tmp_path / "mehr.csv"), yes=True)
    said = capsys.readouterr().out
    assert "They replace data/raw/fragen.csv, data/raw/notes, which params.yaml no longer names." in said
    command.init(str(tmp_path / "mehr.csv"), yes=True)
    assert "They replace" not in capsys.readouterr().out


def test_a_column_group_that_keeps_nothing_together_is_told_with_its_setting(workspace, tmp_path, capsys):
    rows = [{"question": f"What is {n} + 1?", "answer": str(n + 1), "group": f"customer {n // 3}"} for n in range(9)]
    (tmp_path / "sums.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    command.init(str(tmp_path / "sums.jsonl"))
    said = capsys.readouterr().out
    assert "── not used: group\n── 'group' keeps nothing together yet: `group: group` of the source" in said


def test_rows_that_are_too_long_are_refused_as_the_stage_does_it(workspace, tmp_path, capsys):
    lengths = [10] * 9 + [5_000] * 6
    rows = [{"question": f"{n}: {'long ' * (length // 5)}", "answer": "Yes."} for n, length in enumerate(lengths)]
    (tmp_path / "texts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    command.init(str(tmp_path / "texts.jsonl"))
    said = capsys.readouterr().out
    assert (
        "refused: file texts.jsonl: line 10: too long: the prompt has 5002 characters; max_prompt_chars is 4000" in said
    )
    assert "── of 15 records read, 9 can be used; refused: 6 too long" in said
    assert "`max_prompt_chars` and `max_response_chars` of `ingest`" in said
    params = workspace / "params.yaml"
    params.write_text(params.read_text().replace("\ningest:\n", "\ningest:\n  max_prompt_chars: 6000\n"))
    command.init(str(tmp_path / "texts.jsonl"))
    assert "── of 15 records read, 15 can be used" in capsys.readouterr().out


def test_yes_takes_the_guess_without_a_question(workspace, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", Terminal(""))  # a question would end at the end of the file
    command.init(str(tmp_path / "fragen.csv"), yes=True)
    assert "The columns have no usual names. Take --prompt 'Frage'" in capsys.readouterr().out
    assert sources(workspace)[0]["columns"] == {"prompt": "Frage", "response": "Antwort"}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_words):
        pass


def test_a_file_at_an_address_is_taken(workspace, tmp_path, capsys):
    (tmp_path / "chats.jsonl").write_bytes(strangers.LINES)
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        command.init(f"{address}/chats.jsonl?token=secret")
        with pytest.raises(ValueError, match=r"/gone\.jsonl: it cannot be read"):
            command.init(f"{address}/gone.jsonl")
        server.shutdown()
    assert [source["path"] for source in sources(workspace)] == ["data/raw/chats.jsonl"]
    assert (workspace / "data/raw/chats.jsonl").read_bytes() == strangers.LINES
    assert "secret" not in capsys.readouterr().out + (workspace / "params.yaml").read_text()


@pytest.fixture
def bucket(monkeypatch):
    """A bucket of S3 on this machine with a file in it, as `moto` serves it."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "anyone", "AWS_SECRET_ACCESS_KEY": "anything",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="chats")
    client.put_object(Bucket="chats", Key="deep/rows.jsonl", Body=strangers.LINES)
    yield "s3://chats"
    server.stop()


def test_a_file_in_s3_is_taken(workspace, bucket):
    command.init(f"{bucket}/deep/rows.jsonl")
    assert [source["path"] for source in sources(workspace)] == ["data/raw/rows.jsonl"]
    assert (workspace / "data/raw/rows.jsonl").read_bytes() == strangers.LINES
    with pytest.raises(ValueError, match=r"^s3://chats/deep/gone\.jsonl: it cannot be read"):
        command.init(f"{bucket}/deep/gone.jsonl")


def test_columns_that_nobody_can_guess_are_to_be_named(workspace, tmp_path):
    (tmp_path / "odd.csv").write_text("a,b\n" + "".join(f"{n},{n}\n" for n in range(9)))
    with pytest.raises(
        ValueError,
        match=r"no record has columns that are known\. .*\n  ratchet init .*odd\.csv --prompt COLUMN --response COLUMN$",
    ):
        command.init(str(tmp_path / "odd.csv"))


def test_a_column_that_no_row_has_is_refused_with_those_it_may_mean(workspace, tmp_path, capsys):
    rows = [{"prompt": f"raw {n}", "prompt_clean": f"clean {n}", "completion": f"so {n}"} for n in range(9)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        ValueError,
        match=r"no row has all columns that are named: 9 of 9 lack 'prompt_claen'\. Did you mean prompt_clean\?$",
    ):
        command.init(str(file), prompt="prompt_claen", response="completion")
    with pytest.raises(ValueError, match=r"'x'. There are: completion, prompt, prompt_clean\.$"):
        command.init(str(file), prompt="{{ x }}", response="completion")
    del rows[0]["prompt_clean"]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command.init(str(file), prompt="prompt_clean", response="completion")
    assert (
        "8 of 9 rows have the columns that are named; the others are read by the usual names" in capsys.readouterr().out
    )


def test_questions_on_one_paragraph_are_kept_together(workspace, tmp_path, capsys):
    """SQuAD: rows that share a paragraph had been leaks of each other."""
    articles = [
        {"title": f"Article {n}", "paragraphs": [{
            "context": f"It was in the year {n} that all of it began, as they say.",
            "qas": [{"question": f"{ask} was it?", "answers": [{"text": f"In {n}."}]} for ask in ("When", "In which year")],
        }]} for n in range(12)
    ]  # fmt: skip
    (tmp_path / "squad.json").write_text(json.dumps({"version": "1.1", "data": articles}))
    command.init(str(tmp_path / "squad.json"), yes=True)
    assert sources(workspace)[0]["group"] == "context"
    assert "groups: several rows are about one 'context', and those stay in one split" in capsys.readouterr().out


@pytest.mark.parametrize(("profile", "is_said"), [("tiny", True), ("workstation", False)])
def test_settings_that_train_on_texts_of_which_there_are_none_are_reported(
    workspace, tmp_path, capsys, profile, is_said
):
    shutil.copyfile(workspace / f"params/{profile}.yaml", workspace / "params.yaml")
    command.init(str(tmp_path / "fragen.csv"), yes=True)
    told = "`pretrain` trains on 8,000 tokens of the domain's texts, and no text is named: a run would end there."
    assert (told in capsys.readouterr().out) == is_said


def test_data_without_a_usable_record_are_refused_with_what_would_do(workspace, tmp_path):
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(
        ValueError, match=r"no record can be used, and nothing was changed.* correct the file, or name another one\.$"
    ):
        command.init(str(tmp_path / "empty.jsonl"))


def test_a_folder_that_was_taken_is_taken_again_if_it_is_the_same(workspace, tmp_path):
    folder = tmp_path / "mine"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "more").mkdir()
    (folder / "link.jsonl").symlink_to(tmp_path / "fragen.csv")
    for file in ("a.csv", "more/b.csv", "__pycache__/c.csv"):
        shutil.copyfile(tmp_path / "fragen.csv", folder / file)
    for _ in range(2):
        assert data_import.copy_data(folder) == Path("data/raw/mine")
    (folder / "more/b.csv").write_text("Frage;Antwort")
    with pytest.raises(ValueError, match="data/raw/mine is there already and differs from"):
        data_import.copy_data(folder)


def test_data_in_data_raw_stay_there_though_it_leads_to_another_disk(workspace, tmp_path):
    (tmp_path / "disk").mkdir()
    (workspace / "data").mkdir()
    (workspace / "data/raw").symlink_to(tmp_path / "disk")
    shutil.copyfile(tmp_path / "fragen.csv", tmp_path / "disk/fragen.csv")
    command.init("data/raw/fragen.csv", yes=True)
    assert sources(workspace)[0]["path"] == "data/raw/fragen.csv"


@pytest.mark.parametrize("place", ["", ".", "..", "data", "{workspace}"])
def test_a_place_that_contains_the_workspace_is_not_copied_into_it(workspace, place):
    raw = workspace / "data/raw"
    raw.mkdir(parents=True)
    with pytest.raises(ValueError, match=r"contains data/raw of this workspace|No data are named"):
        command.init(place.format(workspace=workspace), yes=True)
    assert [*raw.iterdir()] == []


def test_a_query_without_a_row_or_an_order_is_told_so(workspace, tmp_path, monkeypatch, capsys):
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE chats (id INTEGER, prompt TEXT, completion TEXT)")
    with pytest.raises(ValueError, match=r"a\.db: there is no record in it, and nothing was changed\.$"):
        command.init(str(path), query="SELECT prompt, completion FROM chats ORDER BY id")
    source = {"from": "query", "database": str(path), "query": "SELECT prompt, completion FROM chats"}
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps({"examples": [source], "texts": []})))
    monkeypatch.setattr(sys, "argv", ["command"])
    assert preview_command.main() == 1
    assert (
        capsys.readouterr().err == "`query` needs an ORDER BY: without it a database may give its rows in any order\n"
    )


def test_a_text_alone_is_taken_into_the_corpus_and_shown(workspace, tmp_path, capsys):
    lines = "".join(f"\nPump {number} is checked every week.\n" for number in range(250))
    (tmp_path / "notes.md").write_text(f"# Pumps\n\nWrite to jane.doe@acme.com.\n{lines}")
    examples = sources(workspace)
    command.init(str(tmp_path / "notes.md"))
    printed = capsys.readouterr().out
    assert "── text 1: folder notes.md: notes.md\n# Pumps" in printed
    assert "secrets and personal data in texts: 1 e-mail-address." in printed
    assert "── of 1 texts, 1 can be used, with 8,176 characters\n" in printed
    assert "records read" not in printed
    assert sources(workspace) == examples
    corpora = yaml.safe_load((workspace / "params.yaml").read_text())["ingest"]["corpora"]
    assert corpora["domain"] == [{"from": "folder", "path": "data/raw/notes.md"}]


def test_too_few_texts_are_refused_alone_and_left_out_beside_examples(workspace, tmp_path, capsys):
    """`ingest` would refuse them."""
    before = (workspace / "params.yaml").read_bytes()
    own = tmp_path / "own"
    own.mkdir()
    for name in ("a.md", "b.md"):
        (own / name).write_text("# Pumps\n\nA pump has a valve.\n")
    with pytest.raises(
        ValueError, match=r"own: nothing was changed: too few texts .*: 2, with 56 characters\. 3 are the least"
    ):
        command.init(str(own))
    assert (workspace / "params.yaml").read_bytes() == before
    shutil.copyfile(tmp_path / "fragen.csv", own / "fragen.csv")
    command.init(str(own), yes=True)
    assert "── texts are left out: too few texts to train on and to measure by: 2," in capsys.readouterr().out
    assert yaml.safe_load((workspace / "params.yaml").read_text())["ingest"]["corpora"]["domain"] == []


@pytest.mark.parametrize(("profile", "is_said"), [("tiny", False), ("workstation", True)])
def test_settings_by_which_no_model_trains_on_the_texts_are_reported(workspace, tmp_path, capsys, profile, is_said):
    shutil.copyfile(workspace / f"params/{profile}.yaml", workspace / "params.yaml")
    (tmp_path / "notes").mkdir()
    for number in range(3):
        (tmp_path / f"notes/{number}.txt").write_text(f"Note {number:02}")
    command.init(str(tmp_path / "notes"))
    told = "No model trains on the texts: `max_tokens` of `pretrain` in params.yaml is 0"
    assert (told in capsys.readouterr().out) == is_said


def test_where_no_text_can_be_used_nothing_is_changed(workspace, tmp_path, capsys):
    before = (workspace / "params.yaml").read_bytes()
    (tmp_path / "letter.pdf").write_bytes(b"%PDF-1.7")
    with pytest.raises(ValueError, match=r"letter\.pdf: no text can be used, and nothing was changed"):
        command.init(str(tmp_path / "letter.pdf"))
    assert "refused: folder letter.pdf, letter.pdf: unreadable file: " in capsys.readouterr().out
    assert (workspace / "params.yaml").read_bytes() == before
    assert not (workspace / "data/raw/letter.pdf").exists()


def test_of_many_texts_some_are_tried(workspace, tmp_path, capsys):
    (tmp_path / "notes").mkdir()
    for number in range(70):
        (tmp_path / f"notes/{number}.txt").write_text(f"Note {number:02}")
    command.init(str(tmp_path / "notes"))
    assert (
        "── of 60 texts, 60 can be used, with 420 characters, and 10 others were not tried\n" in capsys.readouterr().out
    )


def test_a_person_says_that_a_table_has_no_header(workspace, tmp_path):
    rows = [f"Weather in town {n} today,It is {n} degrees there" for n in range(9)]
    (tmp_path / "doubt.csv").write_text("\n".join(["Weather,Sun", *rows]))
    command.init(str(tmp_path / "doubt.csv"), header=False, yes=True)
    (source,) = sources(workspace)
    assert (source["header"], source["columns"]["prompt"]) == (False, "column 1")
    (tmp_path / "texts.csv").write_text("\n".join([f'{n},"A long text, number {n}, of no title"' for n in range(9)]))
    command.init(str(tmp_path / "texts.csv"), header=False, yes=True)
    (corpus,) = yaml.safe_load((workspace / "params.yaml").read_text())["ingest"]["corpora"]["domain"]
    assert (corpus["header"], corpus["text"]) == (False, "column 2")
    (tmp_path / "a.jsonl").write_text('{"prompt": "p", "response": "r"}\n')
    with pytest.raises(ValueError, match=r"only CSV and Excel tables may lack a header.*leave out --no-header"):
        command.init(str(tmp_path / "a.jsonl"), header=False)
