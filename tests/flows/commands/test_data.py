"""`ratchet data`: what it counts, draws, finds, tells and compares; what it refuses in one sentence; what it cannot reach."""

import json
import subprocess
from dataclasses import replace

import pytest

from flows import commands
from flows.commands import _schema
from flows.project.data import connection
from tasks.core.records import Message, Refusal, SensitiveText, identify
from tasks.io import tables
from tests.flows.commands.test_json import is_of
from tests.flows.project.data import planting


@pytest.fixture
def examples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(
        "models:\n  base: {group: reference, path: models/base, base: models/base}\n"
        "  first: {group: rounds, path: models/tuned/r0, base: models/pretrained}\n"
    )
    return planting.plant(tmp_path)


@pytest.fixture
def ratchet(capsys):
    """Runs a command here and returns what it prints."""

    def run(*arguments, code=0):
        with pytest.raises(SystemExit) as end:
            commands.main(["data", *arguments])
        said = capsys.readouterr()
        assert end.value.code == code, said.err
        return said.out if code == 0 else said.err

    return run


@pytest.fixture
def report(ratchet):
    """Runs a command with `--json` and returns its report, which its schema has to describe."""

    def run(*arguments):
        values = json.loads(ratchet(*arguments, "--json"))
        name = " ".join(
            ["data", *(arguments[:1] if arguments and arguments[0] in commands.subcommands("data") else ())]
        )
        assert is_of(_schema.REPORTS[name], values)
        return values

    return run


def test_counts_by_source_split_and_reason(examples, ratchet, report):
    counts = report()["counts"]
    (source,) = counts["sources"]
    assert source == {
        "source": "file sums.jsonl", "read": 33, "kept": 30, "merged": 2, "refused": [{"reason": "not JSON", "records": 1}],
    }  # fmt: skip
    assert {row["split"]: row["examples"] for row in counts["splits"]} == planting.SPLITS
    assert [row["groups"] for row in counts["splits"]] == [10, 2, 2, 1]
    assert counts["domains"][0] == {"domain": "numbers", "train": 10, "valid": 2, "test": 2, "gate": 1}
    assert [(row["reason"], row["records"]) for row in counts["reasons"]] == [("near-duplicate", 2), ("not JSON", 1)]
    assert [(row["round"], row["examples"], row["rewritten"]) for row in counts["rounds"]] == [
        ("r0", 20, 0),
        ("r1", 20, 1),
    ]
    (sensitive,) = counts["sensitive"]
    assert sensitive == {
        "source": "file sums.jsonl", "kind": "personal", "rule": "e-mail-address", "action": "reported", "records": 1, "places": 1,
    }  # fmt: skip
    said = " ".join(ratchet().split())
    assert "e-mail-address reported 1 1 file sums.jsonl" in said
    assert "file sums.jsonl 33 30 2 1 not JSON" in said
    assert "train 20 66.7% 10 groups" in said


def test_a_sample_is_drawn_by_its_seed(examples, report):
    drawn = report("sample", "--rows", "4")
    assert drawn["total"] == 30
    assert report("sample", "-n", "4") == drawn
    assert report("sample", "-n", "4", "--seed", "1") != drawn
    assert {row["split"] for row in report("sample", "--split", "gate")["records"]} == {"gate"}
    assert report("sample", "--in", "quarantine", "--split", "not JSON")["total"] == 1
    assert report("sample", "--source", "line 30")["records"][0]["first"] == "user: What is 29 plus one?"
    assert report("sample", "--in", "rounds", "--split", "r1")["total"] == 20


def test_texts_of_any_part_are_found(examples, report):
    def parts(*arguments):
        return [(row["kind"], row["part"]) for row in report("search", *arguments)["matches"]]

    assert parts("IT IS 30") == [("examples", "assistant")]
    assert parts('"expression": "0 + 1"') == [("examples", "call of calculate")]
    assert parts("assert one()") == [("examples", "tests")]
    assert parts("text about") == [("documents", "text")]
    assert parts("1 + 1 = 2") == [("rounds", "assistant")]
    assert parts("plus one", "--in", "quarantine") == [("quarantine", "near-duplicate")] * 2
    assert parts(r"what is 1\d plus", "--regex") == [("examples", "user")] * 10
    assert parts("what is 1.") == []  # a dot is a dot
    cut = report("search", "plus one", "-n", "2")
    assert len(cut["matches"]) == 2
    assert cut["total"] == 29 + 2 + 1  # examples, refused records, the rewrite


def test_the_story_of_an_example(examples, ratchet, report):
    second = examples[1]
    record = report("show", second.id[:6])["record"]
    assert (record["id"], record["kind"], record["source"]) == (second.id, "example", "file sums.jsonl: line 2")
    assert (record["rounds"], record["models"]) == (["r0"], ["first"])
    (merged,) = record["merged"]
    assert (merged["where"], merged["reason"]) == ("file sums.jsonl: line 32", "near-duplicate")
    assert "similarity 0.93 of the responses" in merged["detail"]
    (step,) = record["lineage"]
    assert (step["turn"], step["operator"], step["result"], step["accepted"]) == (
        "r1",
        "improve",
        "ffff000011112222",
        True,
    )
    (signals,) = record["signals"]
    assert (signals["loss_before"], signals["loss_after"], signals["flags"]) == (2.5, 1.25, ["hard"])
    said = " ".join(ratchet("show", second.id).split())
    assert "turn r1 improve by rules" in said
    assert "loss before 2.5, after 1.25" in said
    assert "── assistant It is 2." in said


def test_a_refused_record_is_shown_by_its_id_with_the_reason(examples, tmp_path, ratchet, report):
    place, identity = "file sums.jsonl: line 47", "abad1deaabad1dea"
    refused = Refusal("file sums.jsonl", place, "secret", "aws-access-token in user", "My key is AK…", identity)
    tables.write(tmp_path / "data/ingested/quarantine.parquet", [refused], Refusal)
    held = SensitiveText("file sums.jsonl", place, "user", "secret", "aws-access-token", "AK… (20)", "refused")
    tables.write(tmp_path / "data/ingested/sensitive.parquet", [held], SensitiveText)
    record = report("show", identity[:6])["record"]
    assert (record["id"], record["kind"], record["split"]) == (identity, "refused", "")
    assert [(left["where"], left["reason"]) for left in record["refused"]] == [(place, "secret")]
    assert record["parts"] == [{"role": "beginning", "text": "My key is AK…"}]
    said = " ".join(ratchet("show", identity).split())
    assert f"refused: secret {place}: aws-access-token in user" in said
    assert "refused aws-access-token in user: AK… (20)" in said


def test_places_with_personal_data_are_told_of_the_record(examples, report):
    (place,) = report("show", examples[2].id)["record"]["sensitive"]
    assert (place["rule"], place["action"], place["masked"]) == ("e-mail-address", "reported", "an… (19 characters)")
    assert report("show", examples[3].id)["record"]["sensitive"] == []


def test_clusters_name_what_was_kept_what_was_left_out_and_how_alike_they_are(examples, tmp_path, ratchet, report):
    kept, other = examples[1], examples[25]
    place = "file sums.jsonl: line {}".format
    refused = [
        Refusal("f", place(41), "near-duplicate", f"too like {kept.source} (train), similarity 0.93 of the responses", "It is 2 (a)"),
        Refusal("f", place(42), "duplicate", f"the same as {place(41)}", "It is 2 (b)"),
        Refusal("f", place(43), "leak", f"too like {kept.source} (train), by embedding", "Two"),
        Refusal("f", place(44), "leak", f"the same as {other.source}", "It is 26."),
        Refusal("f", place(45), "duplicate", f"the same as {place(99)}", "Gone"),
        Refusal("f", place(46), "leak", f"overlaps {other.source}", "No copy"),
    ]  # fmt: skip
    tables.write(tmp_path / "data/ingested/quarantine.parquet", refused, Refusal)
    shown = report("clusters", "--members", "2")
    assert (shown["total"], shown["copies"]) == (3, 5)
    assert [(row["where"], row["id"], row["split"], row["size"]) for row in shown["clusters"]] == [
        (kept.source, kept.id, "train", 3),
        (other.source, other.id, other.split, 1),
        (place(99), "", "", 1),
    ]
    assert [(row["where"], row["similarity"]) for row in shown["clusters"][0]["members"]] == [
        (place(41), "0.93 of the responses"),
        (place(42), "0.93 of the responses"),
    ]
    assert [row["similarity"] for row in shown["clusters"][1]["members"]] == ["equal"]
    assert len(report("clusters", "-n", "1")["clusters"]) == 1
    said = ratchet("clusters", "--members", "2")
    assert f"── 3 copies of {kept.source} · kept in train · {kept.id}" in said
    assert "1 more" in said
    assert "3 of 3 clusters; 5 records were left out as copies." in said


def test_the_story_of_a_rewrite_of_a_refused_proposal_of_a_tested_example_and_of_a_document(examples, report):
    rewrite = report("show", "ffff000011112222")["record"]
    assert (rewrite["parents"], rewrite["rounds"], rewrite["round"]) == ([examples[1].id], ["r1"], 1)
    proposal = report("show", "eeee")["record"]
    assert (proposal["kind"], proposal["lineage"][0]["reason"]) == ("proposal", "too alike")
    tested = report("show", examples[24].id)["record"]
    assert [(row["measure"], row["value"], row["outcome"]) for row in tested["results"]] == [
        ("domain", 2.0, ""),
        ("pass@1", 1.0, "passed"),
    ]
    assert report("show", "d1d1d1d1")["record"]["parts"] == [{"role": "text", "text": "A text about sums."}]


def test_results_on_the_gate_set_are_in_no_view(examples, tmp_path, ratchet):
    (tmp_path / "data/gate").mkdir()
    (tmp_path / "data/results/rounds/r0.parquet").rename(tmp_path / "data/gate/r0.parquet")
    assert "There is no table 'results' yet. Stage evaluate makes it" in ratchet("sql", "FROM results", code=1)


def test_two_rounds(examples, ratchet, report):
    difference = report("diff", "r0", "r1")["difference"]
    assert difference["totals"] == {
        "before": 20, "after": 20, "same": 19, "added": 0, "removed": 0, "changed": 1, "moved": 0,
    }  # fmt: skip
    assert difference["changed"] == [
        {"source": "file sums.jsonl: line 2", "before": examples[1].id, "after": "ffff000011112222"}
    ]
    assert f"~ {examples[1].id} → ffff000011112222" in ratchet("diff", "r0", "r1")


def test_two_revisions_through_the_cache(workspace, capsys):
    """One example is edited, one removed, one added, one moves to another split."""
    graph = "stages:\n  ingest:\n    cmd: cp -r made/data .\n    deps: [made]\n    outs: [data/ingested, data/rounds/r0/examples.parquet]\n"
    workspace.path("dvc.yaml").write_text(graph)
    made = planting.examples()
    edited = replace(made[3], messages=[Message("user", "Other?"), Message("assistant", "Yes.")])
    edited = replace(edited, id=identify(edited.messages))
    added = replace(made[4], id="abab000000000000", source="file more.jsonl: line 1")
    moved = replace(made[5], split="test")
    for name, contents in (("old", made), ("new", [*made[:3], edited, *made[6:], added, moved])):
        planting.write_examples(workspace.path("made"), contents)
        subprocess.run(["dvc", "repro", "--quiet"], cwd=workspace.folder, check=True)
        for command in (
            ["add", "."],
            ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", name],
            ["tag", name],
        ):
            subprocess.run(["git", *command], cwd=workspace.folder, check=True)
    reports = []
    for sides in (["old", "new"], ["old"], ["old", "workspace"]):
        with pytest.raises(SystemExit):
            commands.main(["data", "diff", *sides, "--json"])
        reports.append(json.loads(capsys.readouterr().out)["difference"])
    assert reports[0]["totals"] == reports[1]["totals"] == reports[2]["totals"] == {
        "before": 30, "after": 30, "same": 27, "added": 1, "removed": 1, "changed": 1, "moved": 1,
    }  # fmt: skip
    difference = reports[0]
    assert difference["changed"] == [{"source": made[3].source, "before": made[3].id, "after": edited.id}]
    assert difference["moved"] == [{"id": moved.id, "source": moved.source, "before": "train", "after": "test"}]
    assert [one["id"] for one in difference["added"]] == [added.id]
    assert [one["id"] for one in difference["removed"]] == [made[4].id]
    subprocess.run(["rm", "-rf", ".dvc/cache"], cwd=workspace.folder, check=True)
    with pytest.raises(SystemExit) as end:
        commands.main(["data", "diff", "old"])
    assert end.value.code == 1
    assert "data/ingested: not in DVC's cache" in capsys.readouterr().err


def test_sql(examples, ratchet, report):
    answer = report(
        "sql",
        "SELECT split, count(*) AS n, DATE '2026-01-02' AS day FROM examples GROUP BY split ORDER BY n DESC, split DESC",
        "-n",
        "3",
    )
    assert answer == {
        "columns": ["split", "n", "day"],
        "rows": [["train", 20, "2026-01-02"], ["valid", 4, "2026-01-02"], ["test", 4, "2026-01-02"]],
        "more": True,
    }
    assert report("sql", f"SELECT messages[3].content FROM examples WHERE id = '{examples[0].id}'")["rows"] == [["1"]]
    assert "ffff000011112222" in ratchet("sql", "SELECT id, turn FROM lineage WHERE accepted")
    assert report("sql", "WITH a AS (SELECT 1 AS x) SELECT x FROM a")["rows"] == [[1]]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT * FROM exmples", "There is no table 'exmples'. Did you mean examples"),
        ("SELECT * FROM signals", "There is no table 'signals' yet. Stage diagnose makes it:\n  ratchet run diagnose"),
        ("SELEC 1", 'The query failed: Parser Error: syntax error at or near "SELEC".'),
        ("SELECT ids FROM examples", "The query failed: Binder Error"),
        ("", "expected one SELECT, found nothing."),
        ("SELECT 1; SELECT 2", "expected one SELECT, found SELECT, SELECT."),
        ("DROP VIEW examples", "expected one SELECT, found DROP."),
        ("COPY examples TO 'data/ingested/valid.parquet'", "expected one SELECT, found COPY."),
        ("ATTACH 'x.db'", "expected one SELECT, found ATTACH."),
        ("INSTALL httpfs", "expected one SELECT, found LOAD."),
        ("SET enable_external_access = true", "expected one SELECT, found SET."),
        ("SELECT * FROM read_csv('params.yaml')", "Cannot access file"),
        ("SELECT * FROM 'params.yaml'", "There is no table"),
        ("SELECT * FROM read_text('/etc/hostname')", "Cannot access file"),
        ("SELECT * FROM glob('/*')", "Cannot access file"),
        ("SELECT * FROM 'https://example.org/a.parquet'", "There is no table"),
        ("SELECT * FROM read_parquet('https://example.org/a.parquet')", "The query failed: "),
    ],
)
def test_a_query_that_cannot_be_answered_is_refused_in_one_sentence(examples, tmp_path, ratchet, query, told):
    (tmp_path / "data/rounds/r1/signals.parquet").unlink()
    before = (tmp_path / "data/ingested/valid.parquet").read_bytes()
    said = ratchet("sql", query, code=1)
    assert told in said
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) <= 2  # the sentence, and a command
    assert (tmp_path / "data/ingested/valid.parquet").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "params.yaml"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["show", "ffff000011113222"], "There is no record 'ffff000011113222'. Did you mean ffff000011112222"),
        (["show", "zzz"], "There is no record 'zzz'. `ratchet data sample`"),
        (["show", ""], "The id is empty."),
        (["search", "(", "--regex"], "'(' is not a regular expression: "),
        (["diff", "r0", "r7"], "'r7' is neither a round nor a git revision"),
        (["diff", "r0", "--output=x"], "No such option"),
        (["diff", "worksace", "r0"], "Did you mean workspace?"),
    ],
)
def test_what_is_not_there_is_told_with_near_matches(examples, ratchet, arguments, told):
    said = ratchet(*arguments, code=2 if "No such" in told else 1)
    assert told in " ".join(said.split())
    assert "Traceback" not in said


def test_without_tables_each_command_says_how_to_make_them(tmp_path, ratchet):
    for arguments in (
        [],
        ["sample"],
        ["search", "a"],
        ["show", "abcd"],
        ["diff", "workspace"],
        ["clusters"],
        ["sql", "SELECT 1"],
    ):
        assert ratchet(*arguments, code=1) == "data/ingested holds no tables yet. Make them:\n  ratchet run ingest\n"


def test_a_torn_table_is_named(examples, tmp_path, ratchet):
    (tmp_path / "data/ingested/valid.parquet").write_bytes(b"PAR1 torn")
    said = ratchet(code=1)
    assert "data/ingested/valid.parquet" in said
    assert "ratchet run ingest" in said


def test_a_table_of_an_older_schema_is_read(examples, tmp_path, report):
    import polars as pl

    path = tmp_path / "data/ingested/valid.parquet"
    pl.read_parquet(path).drop("desirable", "tier").write_parquet(path)
    assert report("sql", "SELECT count(*), count(desirable) FROM examples")["rows"] == [[30, 0]]


@pytest.mark.parametrize("as_json", [[], ["--json"]])
@pytest.mark.parametrize(
    "command", [["show", "ID"], ["sample", "-n", "30"], ["search", "Compute"], ["sql", "SELECT text FROM texts"]]
)
def test_no_character_of_the_data_acts_on_a_terminal(examples, ratchet, command, as_json):
    said = ratchet(*(examples[0].id if word == "ID" else word for word in command), *as_json)
    assert not set("\x1b\x9b\x07\u202e") & set(said)
    assert "\\u001b[31mred" in said
    assert "\\u009b5m" in said


def test_no_secret_of_the_data_is_shown(examples, tmp_path, ratchet):
    token = "ghp_" + "aB3dE5gH7jK9mN2pQ4rS6tU8vW0xY1zA2bC3"
    holder = examples[4].with_response(f"Use {token}.")
    planting.write_examples(tmp_path, [*examples[:4], holder, *examples[5:]])
    for command in (
        ["show", holder.id],
        ["sample", "-n", "30"],
        ["search", "Use ghp"],
        ["sql", "SELECT messages, [{'a': text}] FROM examples, texts"],
    ):
        for options in ([], ["--json"]):
            said = ratchet(*command, *options)
            assert token not in said, command
    assert "[github-token]" in ratchet("show", holder.id)


def test_lines_fit_a_narrow_terminal(examples, ratchet, monkeypatch):
    monkeypatch.setattr("flows.commands._terminal.columns", lambda: 40)
    for command in (
        [],
        ["show", examples[1].id],
        ["diff", "r0", "r1"],
        ["sample"],
        ["search", "plus one"],
        ["clusters"],
    ):
        assert max(map(len, ratchet(*command).splitlines())) <= 40, command


def test_a_file_with_a_quote_in_its_name_is_a_name(examples, tmp_path, report):
    folder = tmp_path / "data/results/it's"
    folder.mkdir()
    (tmp_path / "data/results/rounds/r0.parquet").rename(folder / "a'b.parquet")
    assert report("sql", "SELECT DISTINCT model_group, model FROM results")["rows"] == [["it's", "a'b"]]


def test_views_of_all_kinds_have_the_columns_of_their_records(examples):
    with connection.opened() as opened:
        for name, table in connection.TABLES.items():
            columns = {row["column_name"] for row in connection.rows(opened, f"DESCRIBE {name}")}
            assert columns >= set(table.record.__dataclass_fields__), name
