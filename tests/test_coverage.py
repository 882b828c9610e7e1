"""The tables of coverage: every name in them is there, and every row is answered in exactly one way."""

import dataclasses
import importlib
import json
from pathlib import Path

import pytest
import typer
import yaml

from benchmarks import coverage_peft
from docs import coverage_page
from docs.coverage_page import KINDS
from flows.commands import application
from tasks import configuration, methods
from tasks.core import records

ROOT = Path(__file__).resolve().parents[1]
SURVEYS = coverage_page.surveys()
ROWS = [row for survey in SURVEYS for row in survey.rows]


def of(kind):
    return sorted({row.answer for row in ROWS if row.kind == kind})


def test_there_are_four_tables_with_gaps_in_each():
    assert len(SURVEYS) == 4
    for survey in SURVEYS:
        kinds = [row.kind for row in survey.rows]
        assert "absent" in kinds, "a survey of which all is here was not read with care"
        assert len(kinds) > kinds.count("absent")


@pytest.mark.parametrize("name", of("method"))
def test_a_method_is_in_the_registry(name):
    assert methods.families_of(name)


def test_a_class_is_one_of_the_pinned_peft():
    for name in of("library"):
        module, _, found = name.rpartition(".")
        assert module.split(".")[0] == "peft"
        assert callable(getattr(importlib.import_module(module), found)), name


@pytest.fixture(scope="module")
def places():
    """What the first word of a place may be followed by."""
    schema = configuration.schema().model_json_schema()

    def settings(record, path):
        for key, field in record.get("properties", {}).items():
            yield ".".join([*path, key])
            for option in (field, *field.get("anyOf", ())):
                if "$ref" in option:
                    yield from settings(schema["$defs"][option["$ref"].rsplit("/", 1)[1]], [*path, key])

    return {
        "stage": set(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]),
        "command": set(typer.main.get_command(application()).commands),
        "setting": set(settings(schema, [])),
        "record": {
            f"{name}.{field.name}"
            for name, record in vars(records).items()
            if dataclasses.is_dataclass(record)
            for field in dataclasses.fields(record)
        },
    }


@pytest.mark.parametrize("place", of("place"))
def test_a_place_is_a_stage_a_command_a_setting_or_a_record(places, place):
    word, _, name = place.partition(" ")
    assert name in places[word]


def test_what_is_not_here_is_told_with_its_reason_and_is_really_not_here():
    registered = {name for family in methods.families() for name in methods.names(family)}
    for row in ROWS:
        if row.kind == "absent":
            assert len(row.answer) > 5
            assert row.answer.endswith(".")
            assert row.representative.lower().replace("-", "_") not in registered, "it is a method: say so"


GOOD = {"category": "c", "representative": "r", "method": "lora"}


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([{"category": "c", "representative": "r"}], r"row 1 \(r\) has none of .*, and must have exactly one"),
        ([GOOD, GOOD | {"representative": "s", "absent": "Not built."}], r"row 2 \(s\) has method, absent of"),
        ([GOOD | {"method": ""}], "has none of"),
        ([GOOD | {"reason": "x"}], "there is no key reason"),
        ([GOOD, GOOD], "c · r stands there twice"),
    ],
    ids=["none", "two", "empty", "unknown", "twice"],
)
def test_a_row_that_is_not_answered_in_exactly_one_way_is_refused(tmp_path, rows, found):
    file = tmp_path / "survey.json"
    file.write_text(json.dumps({"title": "t", "paper": "p", "read": "Nothing.", "rows": rows}))
    with pytest.raises(ValueError, match=found):
        coverage_page.read(file)


def test_everything_that_can_train_has_figures_on_every_model_or_an_error_that_names_why():
    found = coverage_page.figures()
    assert found.keys() == {row.run for row in ROWS if row.run}, (
        "run: python benchmarks/coverage.py, then make reference"
    )
    for name, runs in found.items():
        assert list(runs) == list(coverage_page.MODELS), name
        for run in runs.values():
            assert set(run) >= set(coverage_page.FIGURE) if "error" not in run else len(run["error"]) > 20, name


@pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")  # peft calls it so
def test_the_benchmark_tells_what_merges_and_what_cannot_run_in_packs():
    prefix = coverage_peft.measured("peft.PrefixTuningConfig", {}, "llama")
    assert prefix["trains"] == 2 * 2 * 4 * 24, "layers, keys and values, tokens, numbers of a key"
    assert prefix["packs"]
    assert prefix["merges"] is False
    assert prefix["file"] > 4 * prefix["trains"]
    assert coverage_peft.merges(
        *coverage_peft.wrapped("peft.HRAConfig", {}, "llama", coverage_peft.loaded("llama"))[:1], ""
    )


def test_gaps_count_like_other_rows():
    text = coverage_page.page()
    for survey in SURVEYS:
        gaps = sum(row.kind == "absent" for row in survey.rows)
        assert f"{len(survey.rows) - gaps} of {len(survey.rows)} are covered" in text
        assert f"*not here* {gaps}." in text
    assert list(KINDS) == ["method", "library", "place", "absent"]
