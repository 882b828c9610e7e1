"""The stage on hand-made results: its messages, its files, and that they repeat."""

import csv
import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from pydantic import ValidationError

from tasks.stages.report.config import ReportConfig
from tests.stages.report.material import (
    COURSE,
    HOSTILE,
    INGESTED,
    PRETRAINING,
    losses,
    results,
    run_stage,
)
from tests.stages.report.reading import own_scripts_alone, page

PASSED = [True, False, False, True] * 5
BETTER = {
    "base": results(passed=PASSED),
    "r0": results(domain=1.5, general=3.01, passed=[True, True, False, False] * 5),
}
TEXTS = {
    "base": [*losses("domain_text", 3.0), *losses("general", 4.0)],
    "pretrained": [*losses("domain_text", 2.5), *losses("general", 4.01)],
}
PLOTS = ("differences", "forgetting", "loss", "mix", "passes", "quality", "rounds", "signals", "validation")
NO_EXAMPLES = {"domains": {}, "licenses": {}, "splits": {}, "tiers": {}}


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "plots" / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_summary_is_printed_and_ends_in_the_verdict(tmp_path):
    folder, run = run_stage(tmp_path, BETTER)
    text = (folder / "summary.txt").read_text(encoding="utf-8")
    assert run.said == [text.rstrip()]
    assert "Verdict: r0 is better here and no worse elsewhere: domain loss −0.500" in text
    assert re.search(r"^  domain +8  2\.000 \[.*\] +1\.500 \[.*\] +−0\.500 \[−0\.500, −0\.500\]$", text, re.MULTILINE)
    assert re.search(r"^trainable parameters +0 +1,234$", text, re.MULTILINE)
    assert [re.search(rf"^  {tier} +(\d+) ", text, re.MULTILINE)[1] for tier in ("short", "long", "all")] == [
        "10",
        "10",
        "20",
    ]


@pytest.mark.parametrize("level", [2.0, 12.0])
@pytest.mark.parametrize("name", ["r0", "a-model-with-quite-a-long-name-indeed"])
def test_no_line_of_the_summary_is_longer_than_100_columns(tmp_path, level, name):
    models = {"base": results(level, level, PASSED), name: results(level / 2, level, [True] * 20)}
    folder, _ = run_stage(tmp_path, models)
    assert max(map(len, (folder / "summary.txt").read_text(encoding="utf-8").splitlines())) <= 100


def test_the_record_says_what_the_summary_says(tmp_path):
    folder, run = run_stage(tmp_path, BETTER)
    record = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    comparison = record["comparisons"]["r0"]
    assert (record["reference"], comparison["here"], comparison["elsewhere"]) == ("base", "better", "no worse")
    assert comparison["rows"][0]["difference"] == {"value": -0.5, "low": -0.5, "high": -0.5, "n": 8}
    assert record["models"]["r0"] == {"parameters": 10_000, "trainable": 1234, "bytes": 2**20}
    assert run.notes == {"verdict_r0": "better here, no worse elsewhere"}
    assert run.metrics[0][1]["r0_domain_nats_per_token_difference"] == pytest.approx(-0.5)


def test_the_metrics_are_a_level_and_a_change_of_each_measure_by_model(tmp_path):
    folder, _ = run_stage(tmp_path, BETTER)
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    rows = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["comparisons"]["r0"]["rows"]
    domain = next(row for row in rows if row["measure"] == "domain")
    assert metrics["r0"]["domain_loss"] == domain["after"]["value"]
    assert metrics["r0"]["domain_loss_change"] == -0.5
    assert metrics["base"]["domain_loss"] == domain["before"]["value"]
    assert not any(name.endswith("_change") for name in metrics["base"])
    assert {name.removesuffix("_change") for name in metrics["r0"]} == metrics["base"].keys()


def test_the_page_is_well_formed_and_its_links_lead_somewhere(tmp_path):
    shown = page(run_stage(tmp_path, BETTER)[0])
    assert not shown.open
    identities = shown.values("id")
    assert len(identities) == len(set(identities))
    links = {unquote(link.removeprefix("#")) for link in shown.values("href")}
    items = shown.items
    named = {
        f"item={items['words'][measure]}/{items['items'][item]}"
        for measure, item in zip(items["measure"], items["item"], strict=True)
    }
    assert links <= {*identities, *named}
    assert links & named


def test_every_item_names_its_source(tmp_path):
    """Those of examples and texts the place in their file, and others, such as texts that are held no more, their group."""
    items = page(run_stage(tmp_path, BETTER)[0]).items
    sources = {items["items"][place]: items["sources"][place] for place in items["item"]}
    assert (sources["t3"], sources["general 2"]) == ("toolz 1: t.py:f", "notes.md: §2")
    assert sources["domain_text 2"] == "g2"


def test_the_page_asks_nobody_for_anything(tmp_path):
    folder, _ = run_stage(tmp_path, BETTER)
    shown = page(folder)
    assert not shown.tags & {"link", "img", "iframe", "object", "base"}
    assert not shown.values("src")
    assert all(link.startswith("#") for link in shown.values("href"))
    style = (folder / "index.html").read_text(encoding="utf-8").partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert "sourceMappingURL" not in (folder / "index.html").read_text(encoding="utf-8")
    assert any(value.startswith("default-src 'none'") for value in shown.values("content"))


def test_what_a_model_wrote_is_shown_and_does_nothing(tmp_path):
    models = {name: results(passed=[True], output=HOSTILE) for name in ("base", "r0")}
    sources = {HOSTILE: INGESTED["sources"]["package toolz"]}
    ingested = INGESTED | {
        "licenses": {HOSTILE: 3},
        "domains": {HOSTILE: INGESTED["domains"]["toolz"]},
        "sources": sources,
    }
    folder, _ = run_stage(tmp_path, models, ingested=ingested)
    shown = page(folder)
    assert not shown.open
    assert "img" not in shown.tags
    assert own_scripts_alone(shown)
    assert shown.texts[0]["answers"][0]["output"].startswith("<script>alert(1)</script></pre>")
    assert shown.texts[0]["answers"][0]["output"].endswith("\\u001b[2J\\u202e")
    assert "<script>alert(1)</script></pre><img src=https://evil.example/x" in shown.text
    assert "{{ 7 * 7 }}\\u001b[2J\\u202e" in shown.text
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "\\<script\\>" in card
    assert "<script>" not in card


def test_secrets_of_data_and_answers_are_masked(tmp_path):
    secret = "ghp_" + "aB3" * 12
    models = {name: results(passed=[True], output=f"use {secret} here") for name in ("base", "r0")}
    folder, _ = run_stage(tmp_path, models)
    assert "use [github-token] here" in page(folder).text
    assert "use [github-token] here" in page(folder).texts[0]["answers"][0]["output"]
    assert secret not in json.dumps(page(folder).texts)
    assert not [path for path in folder.rglob("*") if path.is_file() and secret in path.read_text(encoding="utf-8")]


def test_long_answers_are_cut_with_a_word(tmp_path):
    models = {name: results(passed=[True], output="ab" * 5_000) for name in ("base", "r0")}
    shown = page(run_stage(tmp_path, models)[0])
    assert "… 6,000 characters more" in shown.text
    assert "… 6,000 characters more" in shown.texts[0]["answers"][0]["output"]


def test_as_many_answers_are_shown_as_were_asked_for(tmp_path):
    for wanted, name in ((10, "ten"), (3, "three"), (0, "none")):
        folder, _ = run_stage(tmp_path / name, BETTER, answers=wanted)
        assert (folder / "index.html").read_text(encoding="utf-8").count('<article aria-label="Task') == wanted


def test_the_page_counts_the_data(tmp_path):
    text = " ".join(page(run_stage(tmp_path, BETTER)[0]).text.split())
    assert "package toolz 5 3 1 1" in text
    assert "toolz 1 1 1 0 3" in text
    assert INGESTED["pretraining"] in text


def test_contamination_is_told_where_there_is_some_and_where_there_is_none(tmp_path):
    folder, _ = run_stage(tmp_path / "none", BETTER)
    clean = "No training text overlaps what is held out for validation, test and gate (3 examples and 8 texts), by the limits of"
    assert clean in " ".join(page(folder).text.split())
    assert f"{clean} `ingest.contamination`." in (folder / "README.md").read_text(encoding="utf-8")
    leaked = INGESTED | {
        "dropped": {"leak": 2},
        "corpora": {"general train": {"documents": 8, "groups": 8, "chars": 800}},
    }
    text = " ".join(page(run_stage(tmp_path / "some", BETTER, ingested=leaked)[0]).text.split())
    assert (
        "2 records overlapped what is held out for validation, test and gate (3 examples), or a benchmark, and did not train."
        in text
    )
    nothing = INGESTED | {"splits": {"train": {"examples": 3, "groups": 2}}, "corpora": {}}
    assert "held out for validation" not in page(run_stage(tmp_path / "nothing", BETTER, ingested=nothing)[0]).text


def test_samples_of_each_rule_stand_before_and_after_it(tmp_path):
    samples = [
        {"rule": "empty", "source": "rows.jsonl", "where": f"line {n}", "before": HOSTILE, "after": "refused"}
        for n in range(2)
    ]
    samples.append(
        {"rule": "github-token", "source": "a.md", "where": "a.md", "before": "text: ghp_…", "after": "[github-token]"}
    )
    folder, _ = run_stage(tmp_path, BETTER, ingested=INGESTED | {"samples": samples})
    text = " ".join(page(folder).text.split())
    assert "empty rows.jsonl, line 0 <script>alert(1)</script>" in text
    assert "github-token a.md text: ghp_… [github-token]" in text
    assert own_scripts_alone(page(folder))
    assert (folder / "index.html").read_text(encoding="utf-8").count('scope="rowgroup"') == 2


def test_many_origins_end_in_one_row_for_the_rest(tmp_path):
    domains = {f"package{n:02}": {"examples": 100 - n, "train": 1, "valid": 0, "test": 0, "gate": 0} for n in range(20)}
    folder, _ = run_stage(tmp_path, BETTER, ingested=INGESTED | {"domains": domains})
    text = " ".join(page(folder).text.split())
    assert "package11" in text
    assert "package12" not in text
    assert f"8 others 8 0 0 0 {sum(100 - n for n in range(12, 20))}" in text


def test_the_model_card_names_base_licence_and_figures(tmp_path):
    card = (run_stage(tmp_path, BETTER)[0] / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert "The base's licence is Apache-2.0." in card
    assert "the model of the Python package m 1" in card
    assert "| domain loss | nats/token | 8 | 2.000" in card
    assert "lora × adamw × cross_entropy" in card
    assert INGESTED["pretraining"] in card


def test_the_data_behind_the_charts_is_complete(tmp_path):
    folder, _ = run_stage(tmp_path, BETTER)
    assert [(row["model"], int(row["tokens"])) for row in rows(folder, "loss")] == [
        ("r0", t) for _, t, _ in COURSE["loss"]
    ]
    assert [float(row["loss"]) for row in rows(folder, "validation")] == [2.0, 1.5]
    assert [row["measure"] for row in rows(folder, "differences")].count("domain") == 2
    assert [(row["model"], row["part"]) for row in rows(folder, "passes")] == [
        (model, part) for part in ("short", "long", "all") for model in ("base", "r0")
    ]


def test_text_alone_makes_a_whole_report_that_names_what_decided(tmp_path):
    folder, run = run_stage(tmp_path, TEXTS, ingested=INGESTED | NO_EXAMPLES, pretraining=PRETRAINING, tasks=0)
    claim = "pretrained is better here and no worse elsewhere: domain text loss −0.500 [−0.500, −0.500] nats per token"
    assert f"Verdict: {claim}" in " ".join((folder / "summary.txt").read_text(encoding="utf-8").split())
    assert run.notes == {"verdict_pretrained": "better here, no worse elsewhere"}
    assert run.metrics[0][1].keys() >= {"pretrained_domain_text_nats_per_token_difference"}

    shown = page(folder)
    assert not shown.open
    text = " ".join(shown.text.split())
    assert "interval of the change of the domain text loss lies below zero" in text
    assert "Examples by origin" not in text
    assert "Texts by corpus and split general test 8" in text
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "| domain text loss | nats/token | 8 | 3.000" in card
    assert "| origin |" not in card
    assert "| pretrained | the model of the Python package m 1 | adept × adamw | 500 |" in card


@pytest.mark.parametrize(
    ("name", "grid", "has_caveat"), [("compressed", "Q4_1", True), ("compressed", None, False), ("r0", "Q4_1", False)]
)
def test_a_compressed_model_whose_base_lay_on_a_coarse_grid_says_so(tmp_path, name, grid, has_caveat):
    folder, _ = run_stage(tmp_path, {"base": results(), name: results(domain=1.5)}, grid=grid)
    for file in ("summary.txt", "index.html", "README.md"):
        text = " ".join((folder / file).read_text(encoding="utf-8").split())
        assert ("dequantised from Q4_1: what compression costs here" in text) == has_caveat


def test_what_the_pretraining_gained_and_forgot_is_drawn_and_told_by_checkpoint(tmp_path):
    folder, _ = run_stage(tmp_path, BETTER, pretraining=PRETRAINING)
    assert rows(folder, "forgetting") == [
        {"model": "pretrained", "tokens": "0", "domain": "0.0", "general": "0.0"},
        {"model": "pretrained", "tokens": "200", "domain": "-0.25", "general": "-0.01"},
        {"model": "pretrained", "tokens": "500", "domain": "-0.5", "general": "0.125"},
    ]
    shown = page(folder)
    assert "Forgetting against domain gain" in shown.text
    (chart,) = (chart for chart in shown.charts if chart["description"] == "Changes of domain and general loss")
    tips = [row["tip"] for layer in chart["layer"] for row in layer["data"]["values"] if "tip" in row]
    assert "pretrained after 500 tokens: domain loss −0.500, general loss +0.125" in tips
    assert "pretrained 500 −0.500 +0.125" in " ".join(shown.text.split())
    sets = [(row["model"], row["set"], row["tokens"]) for row in rows(folder, "validation")]
    assert sets == [
        *(("pretrained", name, tokens) for name in ("domain", "general") for tokens in ("0", "200", "500")),
        *(("r0", "validation", tokens) for tokens in ("0", "500")),
    ]
    (chart,) = (chart for chart in shown.charts if chart["description"] == "Loss over trained tokens")
    assert "pretrained, held out: 2.75 after 200 tokens" in json.dumps(chart)


def test_without_a_training_that_measured_both_corpora_the_ends_are_drawn(tmp_path):
    for name, pretraining in (("none", None), ("one", PRETRAINING | {"measured": {"domain": [[0, 3.0], [9, 2.0]]}})):
        folder, _ = run_stage(tmp_path / name, BETTER, pretraining=pretraining)
        assert (folder / "plots/forgetting.csv").read_text(encoding="utf-8") == "model,tokens,domain,general\n"
        shown = page(folder)
        assert "No training measured both corpora as it went, so there are no paths." in shown.text
        (chart,) = (chart for chart in shown.charts if chart["description"] == "Changes of domain and general loss")
        ((point,),) = ([row for row in layer["data"]["values"] if "tip" in row] for layer in chart["layer"][:1])
        tip = "r0: domain loss −0.500 [−0.500, −0.500], general loss +0.010 [+0.010, +0.010]"
        assert (point["x"], point["y"], point["tip"]) == (pytest.approx(0.01), pytest.approx(-0.5), tip)
    only_domain = {name: losses("domain", level) for name, level in (("base", 2.0), ("r0", 1.5))}
    assert "Forgetting against domain gain" not in page(run_stage(tmp_path / "domain", only_domain)[0]).text


def test_a_loss_that_is_no_number_is_left_out_of_the_charts(tmp_path):
    nan = float("nan")
    broken = {"domain": [[0, 3.0], [200, nan], [500, 2.5]], "general": [[0, 4.0], [200, 4.0], [500, 4.125]]}
    course = PRETRAINING | {"measured": broken, "loss": [[1, 100, 2.0], [2, 200, nan], [3, 500, 1.0]]}
    folder, _ = run_stage(tmp_path, BETTER, pretraining=course)
    assert [row["tokens"] for row in rows(folder, "forgetting")] == ["0", "500"]
    (chart,) = (chart for chart in page(folder).charts if chart["description"] == "Loss over trained tokens")
    steps = [row for row in chart["layer"][0]["data"]["values"] if row["model"] == "pretrained"]
    assert [(row["x"], row["y"]) for row in steps] == [(100, 2.0), (500, 1.0)]


def test_several_models_are_each_compared_with_the_reference(tmp_path):
    models = BETTER | {"r1": results(domain=2.5, passed=PASSED)}
    folder, _ = run_stage(tmp_path, models)
    text = " ".join((folder / "summary.txt").read_text(encoding="utf-8").split())
    assert "r0 is better here and no worse elsewhere" in text
    assert "r1 is worse here, and no worse elsewhere" in text
    assert [row["model"] for row in rows(folder, "passes")].count("base") == 3
    assert not page(folder).open


def test_one_group_has_figures_and_no_interval(tmp_path):
    def in_one(domain: float) -> list:
        return [type(row)(**(vars(row) | {"group": "g"})) for row in results(domain=domain)]

    folder, _ = run_stage(tmp_path, {"base": in_one(2.0), "r0": in_one(1.5)})
    assert "−0.500 [no interval]" in (folder / "summary.txt").read_text(encoding="utf-8")
    row = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["comparisons"]["r0"]["rows"][0]
    assert row["difference"] == {"value": -0.5, "low": None, "high": None, "n": 1}


def test_a_wider_margin_can_turn_the_verdict(tmp_path):
    models = {"base": results(), "r0": results(domain=1.5, general=3.1)}
    verdicts = []
    for margin in (0.05, 0.2):
        folder, _ = run_stage(tmp_path / str(margin), models, general_margin=margin)
        verdicts.append(
            json.loads((folder / "summary.json").read_text(encoding="utf-8"))["comparisons"]["r0"]["elsewhere"]
        )
    assert verdicts == ["worse", "no worse"]


def test_a_second_run_gives_the_same_bytes_and_knows_no_path(tmp_path):
    first, second = (run_stage(tmp_path / name, BETTER)[0] for name in ("one", "two"))
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert [str(file) for file in files] == [
        "README.md",
        "index.html",
        "metrics.json",
        *(f"plots/{name}.csv" for name in PLOTS),
        "summary.json",
        "summary.txt",
    ]
    for file in files:
        assert (first / file).read_bytes() == (second / file).read_bytes()
        assert str(tmp_path) not in (first / file).read_text(encoding="utf-8")


def test_without_a_model_to_compare_it_says_which_models_there_are(tmp_path):
    with pytest.raises(
        ValueError, match=r"one model of group `reference` and at least one of another; it has base \(reference\)"
    ):
        run_stage(tmp_path, {"base": results()})


@pytest.mark.parametrize("wrong", [{"general_margin": 0}, {"confidence": 1}, {"resamples": 10}, {"margin": 0.1}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        ReportConfig.model_validate(wrong)


def test_tokens_by_origin_are_a_table_with_the_share_that_no_pack_holds(tmp_path, monkeypatch):
    assert "could train on" not in page(run_stage(tmp_path / "plain", BETTER)[0]).text
    figures = {"tokens": 12_000, "mean": 40.25, "p50": 38, "p90": 60, "p99": 99, "longest": 1_024}
    sources = {"chats": {"sequences": 300, "too_long": 100, **figures}}
    sources |= {f"file {n:02d}": {"sequences": n, "too_long": 0, **figures, "tokens": n} for n in range(20)}
    monkeypatch.setitem(COURSE, "sources", sources)
    text = " ".join(page(run_stage(tmp_path / "figures", BETTER)[0]).text.split())
    assert "Tokens that r0 could train on, by domain" in text
    assert "chats 300 12,000 40 38 60 99 1,024 25.0" in text
    assert "9 others 36 36 1 – – – 1,024 0.0" in text


def test_a_mixture_is_a_table_beside_the_training(tmp_path, monkeypatch):
    assert "Mixture of" not in page(run_stage(tmp_path / "plain", BETTER)[0]).text
    monkeypatch.setitem(COURSE, "mixture", {"chats": {"sequences": 2, "tokens": 1200, "passes": 3.0, "share": 0.5}})
    text = " ".join(page(run_stage(tmp_path / "mixed", BETTER)[0]).text.split())
    assert "Mixture of r0" in text
    assert "chats 2 1,200 3.00 50.0" in text
