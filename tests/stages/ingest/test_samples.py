"""Samples of each rule: a few, the same of equal tables, and without what rules are to hide."""

import json

from tasks.core.records import Refusal, SensitiveText
from tasks.io import tables
from tasks.stages.ingest import samples
from tests.stages.ingest.running import ingest, write_rows

TOKEN = "ghp_" + "a1B2" * 9


def write(folder, refusals, places=()):
    tables.write(folder / "quarantine.parquet", refusals, Refusal)
    tables.write(folder / "sensitive.parquet", list(places), SensitiveText)
    return folder


def refusal(number, reason, detail="", record="text"):
    return Refusal("rows.jsonl", f"line {number}", reason, detail, record)


def test_each_rule_has_a_few_drawn_by_the_seed(tmp_path):
    refusals = [refusal(n, reason) for reason in ("empty", "too long") for n in range(50)] + [refusal(50, "rare")]
    drawn = samples.draw(write(tmp_path, refusals), 0)
    assert [sample["rule"] for sample in drawn] == ["empty"] * 3 + ["rare"] + ["too long"] * 3
    assert len({sample["where"] for sample in drawn[:3]}) == 3
    assert samples.draw(write(tmp_path / "again", refusals[::-1]), 0) == drawn, "in whatever order they were filed"
    assert samples.draw(tmp_path, 1) != drawn


def test_what_became_of_a_record_stands_behind_it(tmp_path):
    refusals = [refusal(1, "duplicate", "the same as line 0"), refusal(2, "empty")]
    places = [
        SensitiveText("rows.jsonl", f"line {n}", "user", "secret", "github-token", "ghp_… (40 characters)", action)
        for n, action in enumerate(("redacted", "refused", "reported"))
    ]
    drawn = samples.draw(write(tmp_path, refusals, places), 0)
    assert [(sample["before"], sample["after"]) for sample in drawn[:2]] == [
        ("text", "merged: the same as line 0"),
        ("text", "refused"),
    ]
    assert {(sample["where"], sample["before"], sample["after"]) for sample in drawn[2:]} == {
        ("line 0", "user: ghp_… (40 characters)", "[github-token]"),
        ("line 1", "user: ghp_… (40 characters)", "refused"),
        ("line 2", "user: ghp_… (40 characters)", "kept as it is, and reported"),
    }


def test_secrets_and_personal_data_are_hidden_and_texts_are_short(tmp_path):
    refusals = [refusal(1, "empty", f"near {TOKEN} " + "x" * 900, f"ask max.muster@firma.de about {TOKEN}")]
    (sample,) = samples.draw(write(tmp_path, refusals), 0)
    assert sample["before"] == "ask [e-mail-address] about [github-token]"
    assert TOKEN not in json.dumps(sample)
    assert len(sample["after"]) <= 220


def test_the_stage_keeps_them_in_its_report(tmp_path):
    write_rows(tmp_path / "rows.jsonl", "square", 12)
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    (tmp_path / "rows.jsonl").write_text("\n".join([*lines, lines[0], "no json"]) + "\n")
    _, report = ingest(tmp_path, [{"from": "file", "path": str(tmp_path / "rows.jsonl")}])
    rules = {sample["rule"]: sample for sample in report["samples"]}
    assert rules.keys() == report["dropped"].keys()
    assert rules["duplicate"]["after"].startswith("merged: the same as ")
    assert rules["duplicate"]["before"].startswith("It is square")
