"""A candidate is compared with all that was ever promoted, measured on the same items in the same way."""

import shutil
from dataclasses import replace

import pytest

from flows.registry import promotion, versions
from tasks.core.records import CONDITIONS, Result
from tasks.io import provenance, tables
from tests.flows.registry.test_promotion import Nights


@pytest.fixture
def nights(tmp_path, store):
    return Nights(tmp_path)


def test_no_worse_is_measured_against_everything_ever_promoted(nights):
    for number, general in enumerate((3.03, 3.0, 3.03, 3.06)):
        nights.night(str(number), 1.9 - 0.1 * number, general=general, seed=number + 1)
        found = promotion.promote()
    # 0.03 above the one before, but version 2 was promoted at 3.0 and the margin is 0.05.
    assert (found.verdict, found.checks[1]["bar"]) == ("not decided", "version 2")


def test_the_base_stays_a_bar_where_each_version_is_a_little_worse_elsewhere_than_the_one_before(nights):
    for number, general in enumerate((3.03, 3.06)):
        nights.night(str(number), 1.9 - 0.1 * number, general=general, seed=number + 1)
        found = promotion.promote()
    # 0.03 above version 1, the only one promoted, and 0.06 above the base; the margin is 0.05.
    assert (found.verdict, found.checks[1]["bar"]) == ("not decided", "base")


def test_a_bar_that_was_lost_lets_nothing_pass(nights):
    nights.night("one", 1.9)
    promotion.promote()
    shutil.rmtree(nights.folder / "models/versions/1")
    nights.night("two", 1.8)
    with pytest.raises(FileNotFoundError, match="the results of version 1 are not here"):
        promotion.promote()


def test_where_the_gate_set_has_changed_what_was_promoted_is_measured_anew_once(nights, monkeypatch):
    nights.night("one", 1.9)
    promotion.promote()
    asked = []

    # What `tasks.gate_eval` would write; tests/test_gate_eval.py holds that it does.
    def measure(version, files, output, conditions):
        asked.append((version, sorted(files), conditions))
        shutil.copyfile(nights.folder / "data/gate/base.parquet", output)

    monkeypatch.setattr(promotion, "_measure", measure)
    rename = {f"domain {n}": f"domain {n + 1000}" for n in range(40)}
    nights.night("two", 1.8)
    for name in ("base", "r0"):
        path = nights.folder / f"data/gate/{name}.parquet"
        rows = [replace(row, item=rename.get(row.item, row.item)) for row in tables.read(path, Result)]
        tables.write(path, rows, Result, tables.facts_of(path))
    nights.register()
    assert promotion.promote().verdict == "promoted"
    assert asked == [(1, ["base", "model"], nights.conditions)]


def test_where_models_are_measured_otherwise_what_was_promoted_is_measured_anew(nights, monkeypatch, capsys):
    nights.set(gate={"margins": {"number accuracy": 0.2}})
    cut_off = (False,) * 40  # by `max_new_tokens`
    nights.measure("base", 2.0, 3.0, answers=cut_off)
    nights.night("one", 1.9, answers=cut_off)
    assert promotion.promote().verdict == "promoted"
    nights.conditions = "with longer answers"
    nights.measure("base", 2.0, 3.0, answers=(True,) * 40)
    monkeypatch.setattr(
        promotion,
        "_measure",
        lambda version, files, output, conditions: shutil.copyfile(nights.folder / "data/gate/base.parquet", output),
    )
    nights.night("two", 1.8, answers=(True,) * 4 + (False,) * 36)
    assert promotion.promote().verdict == "refused"
    assert "The settings of `evaluate` are others than version 1 was measured by" in capsys.readouterr().out
    assert [line["look"] for line in nights.lines()] == [1, 1]
    nights.conditions = "as ever"
    nights.measure("base", 2.0, 3.0, answers=cut_off)
    nights.night("two", 1.8, answers=cut_off)
    assert promotion.promote().look == 2, "the same candidate under other settings is judged again"


def test_models_under_two_tokenizers_are_not_compared(nights, monkeypatch):
    nights.night("one", 1.9)
    promotion.promote()
    nights.night("two", 1.8)
    path = nights.folder / "data/gate/r0.parquet"
    tables.write(path, [replace(row, tokens=99) for row in tables.read(path, Result)], Result, tables.facts_of(path))
    nights.register()
    kept = nights.folder / "models/versions/1/results.parquet"
    monkeypatch.setattr(promotion, "_measure", lambda version, files, output, conditions: shutil.copyfile(kept, output))
    with pytest.raises(ValueError, match="only under one tokenizer"):
        promotion.promote()


def test_a_bar_that_was_changed_lets_nothing_pass(nights):
    nights.night("one", 1.9)
    promotion.promote()
    kept = nights.folder / "models/versions/1/results.parquet"
    tables.write(kept, [replace(row, value=2 * row.value) for row in tables.read(kept, Result)], Result)
    nights.night("two", 1.8)
    with pytest.raises(ValueError, match=r"results.parquet is not what version 1 was judged by"):
        promotion.promote()


def test_a_base_that_was_measured_otherwise_lets_nothing_pass(nights):
    nights.night("one", 1.9)
    nights.measure("base", 9.0, 9.0)
    with pytest.raises(ValueError, match=r"data/gate/base.parquet is not what models/candidate.json was written for"):
        promotion.promote()


def test_what_was_measured_anew_by_other_settings_than_the_candidate_is_no_bar(nights, monkeypatch):
    nights.night("one", 1.9)
    promotion.promote()
    nights.conditions = "with longer answers"
    nights.measure("base", 2.0, 3.0)
    nights.night("two", 1.8)
    candidate = promotion.load_candidate()
    anew = versions.folder(1) / f"results-{promotion.gate_set_hash(candidate.results)}.parquet"

    def measure(version, files, output, conditions):
        rows = tables.read(nights.folder / "data/gate/base.parquet", Result)
        tables.write(output, rows, Result, {CONDITIONS: conditions})

    measure(1, {}, anew, "with shorter answers")
    anew.with_suffix(".sha256").write_text(provenance.digest(anew))
    monkeypatch.setattr(promotion, "_measure", measure)
    promotion.promote()
    assert tables.facts_of(anew)[CONDITIONS] == nights.conditions


def test_a_candidate_and_a_base_that_were_measured_differently_are_not_compared(nights):
    nights.conditions = "with longer answers"
    nights.night("one", 1.9)
    with pytest.raises(ValueError, match=r"base.parquet and .*r0.parquet were measured under different settings"):
        promotion.promote()
    assert nights.lines() == []
