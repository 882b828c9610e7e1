"""What is missing, empty, no number, too much or hostile is shown as what it is, and nothing of it runs."""

import hashlib
import json
import math
import time
from dataclasses import replace

import pytest

from tasks.core.records import Result
from tasks.stages.report.data.items import list_items
from tasks.stages.report.render.item_data import BLOCK, TABLE_BYTES, TEXT_BYTES, pack_items
from tasks.stages.report.render.pages import all_shown, shown
from tests.stages.report.material import INGESTED, answers, example, losses, results, run_stage
from tests.stages.report.reading import own_scripts_alone, page, unpacked

PASSED = [True, False]
MIB = 2**20
PROGRAM = "</script><script>alert(1)</script>\x1b[31mred\x1b[0m<!-- \u202e"
NAME = "модель-模型 'é' <b>"


def test_a_metric_that_is_missing_is_a_dash(tmp_path):
    folder, _ = run_stage(tmp_path, {"base": results(), "r0": results(1.5)}, metrics={"trainable": None, "bytes": None})
    assert "trainable parameters – –" in " ".join(page(folder).text.split())
    assert "weights on disk MiB – –" in " ".join(page(folder).text.split())
    assert json.loads((folder / "summary.json").read_text())["models"]["r0"]["bytes"] is None
    assert "Loss of each model over its size" not in page(folder).text


def test_answers_that_end_at_once_are_called_nothing(tmp_path):
    models = {name: results(passed=[False, False], output="") for name in ("base", "r0")}
    folder, _ = run_stage(tmp_path, models)
    assert page(folder).text.count("(nothing: the model ended its answer at once)") == 4
    assert page(folder).texts[0]["answers"][0]["output"] == ""


def test_an_empty_test_set_makes_a_report_that_says_so(tmp_path):
    models = {name: losses("general", 2.0) for name in ("base", "r0")}
    folder, run = run_stage(tmp_path, models, tasks=0)
    for file in ("summary.txt", "index.html", "README.md"):
        text = " ".join((folder / file).read_text(encoding="utf-8").split())
        assert "no loss in the domain, since the test set is empty" in text, file
    assert run.notes == {"verdict_r0": "not decided here, no worse elsewhere"}


def test_losses_that_are_no_numbers_are_named_and_decide_nothing(tmp_path):
    broken = [replace(row, value=math.nan) if row.measure == "domain" else row for row in results(1.5, passed=PASSED)]
    folder, _ = run_stage(tmp_path, {"base": results(passed=PASSED), "r0": broken})
    assert "domain loss no number [no interval] nats per token" in page(folder).text
    record = json.loads((folder / "summary.json").read_text(), parse_constant=pytest.fail)
    assert record["comparisons"]["r0"]["here"] == "not decided"
    items = page(folder).items
    at = items["item"].index(items["items"].index("domain 0"))
    assert [values[at] for values in items["values"]] == [pytest.approx(1.95), None]


def test_programs_that_would_end_the_page_or_paint_a_terminal_are_text(tmp_path):
    models = {NAME if name == "r0" else name: results(passed=PASSED, output=PROGRAM) for name in ("base", "r0")}
    folder, _ = run_stage(tmp_path, models, ingested=INGESTED | {"caveats": [PROGRAM]})
    shown_page = page(folder)
    assert own_scripts_alone(shown_page)
    assert not shown_page.open
    assert shown_page.texts[0]["answers"][1]["output"] == shown(PROGRAM)
    assert "\x1b" not in (folder / "index.html").read_text(encoding="utf-8")
    assert "\u202e" not in (folder / "index.html").read_text(encoding="utf-8")
    assert "</script><script>alert" in shown_page.text


def test_names_in_any_script_are_names(tmp_path):
    folder, _ = run_stage(tmp_path, {"base": results(), NAME: results(1.5)})
    shown_page = page(folder)
    assert shown_page.items["models"] == ["base", NAME]
    assert f"{NAME} is better here" in shown_page.text
    assert NAME in json.dumps(shown_page.charts, ensure_ascii=False)


def digest(text: object) -> str:
    """What no compression makes small, as ids of items are."""
    return hashlib.sha256(str(text).encode()).hexdigest()


def program(item: str) -> str:
    """An answer to a task."""
    return f"def f():\n    return {digest(item)}"


def many(number: int, passed) -> list[Result]:
    """Answers to so many tasks, and a loss on each."""
    rows = [Result("pass@1", digest(n)[:16], f"g{n % 997}", None, float(passed(n)), 1, 1, "passed" if passed(n) else "assertion",
                   program(digest(n)[:16])) for n in range(number // 2)]  # fmt: skip
    return rows + [Result("domain", row.item, row.group, None, (index * 7919 % 10007) / 1000, 10, 40, "", "")
                   for index, row in enumerate(rows)]  # fmt: skip


def test_a_hundred_thousand_items_fit_on_a_page_of_five_megabytes_within_seconds():
    models = {"base": many(100_000, lambda n: n % 3 == 0), "r0": many(100_000, lambda n: n % 4 == 0)}
    began = time.process_time()
    items = list_items(models, {}, "r0")
    packed_items = pack_items(items, list(models), all_shown)
    assert time.process_time() - began < 20, "of a slow machine"
    assert (packed_items.shown, packed_items.total) == (100_000, 100_000)
    assert len(packed_items.table) <= TABLE_BYTES
    assert BLOCK < packed_items.with_texts < 100_000
    assert sum(map(len, packed_items.blocks)) <= TEXT_BYTES
    table = unpacked(packed_items.table)
    assert len(table["item"]) == 100_000
    assert table["values"][0][0] == 1.0, "the first were lost"
    assert table["values"][1][0] == 0.0
    first = unpacked(packed_items.blocks[0])[0]["answers"][0]["output"]
    assert first == program(table["items"][table["item"][0]])


def test_a_page_stays_below_five_megabytes_whatever_its_items(tmp_path):
    folder, _ = run_stage(tmp_path, {name: results(passed=PASSED) for name in ("base", "r0")})
    fixed = (folder / "index.html").stat().st_size
    assert fixed + TABLE_BYTES + TEXT_BYTES < 5 * MIB


def test_items_that_do_not_fit_are_left_out_and_counted():
    random_names = [
        "".join(hashlib.sha256(f"{n} {part}".encode()).hexdigest() for part in range(4)) for n in range(40_000)
    ]
    rows = [Result("domain", name, "g", None, 1.0, 10, 40, "", "") for name in random_names]
    packed_items = pack_items(list_items({"base": rows, "r0": rows}, {}, "r0"), ["base", "r0"], all_shown)
    assert packed_items.total == 40_000
    assert packed_items.shown in (20_000, 10_000, 5_000)
    assert len(packed_items.table) <= TABLE_BYTES


def test_every_item_has_one_stable_link_and_lost_ones_come_first():
    before, after = answers([True, False, True, False]), answers([True, True, False, False])
    items = list_items({"base": [*before, *losses("domain", 2.0)], "r0": [*after, *losses("domain", 1.5)]}, {}, "r0")
    assert [item.link for item in items[:4]] == ["pass@1/t2", "pass@1/t1", "pass@1/t3", "pass@1/t0"]
    assert {item.measure for item in items[4:]} == {"domain"}
    assert len({item.link for item in items}) == len(items)


def test_an_item_that_one_model_was_not_given_is_listed_as_not_measured():
    items = list_items({"base": answers([True]), "r0": answers([True, False])}, {}, "r0")
    table = unpacked(pack_items(items, ["base", "r0"], all_shown).table)
    at = table["item"].index(table["items"].index("t1"))
    assert [table["words"][side[at]] for side in table["outcomes"]] == ["not measured", "syntax"]


def test_the_task_and_its_reference_stand_beside_the_answers():
    items = list_items({"base": answers([True]), "r0": answers([False])}, {"t0": example(0)}, "r0")
    (texts,) = unpacked(pack_items(items, ["base", "r0"], all_shown).blocks[0])
    assert texts["task"].startswith("user: Write f number 0.")
    assert texts["reference"] == "def f(): ..."
    assert unpacked(pack_items(items, ["base", "r0"], all_shown).table)["sources"] == ["toolz 1: t.py:f"]


def test_many_texts_are_shown_as_each_is_alone():
    key = "ghp_" + "aB3" * 12
    texts = [PROGRAM, NAME, "", f"key = '{key}'", "x" * 5_000, "plain"]
    assert all_shown(texts) == [shown(text) for text in texts]
    assert key not in all_shown(texts)[3]


def test_losses_that_rose_most_come_first_among_losses():
    items = list_items({"base": losses("domain", 2.0), "r0": rising("domain")}, {}, "r0")
    assert [item.item for item in items][:2] == ["domain 7", "domain 6"]
    assert [item.item for item in items][-1] == "domain 0"


def rising(measure: str) -> list[Result]:
    """A loss that is the higher the later the item."""
    return [replace(row, value=row.value + index) for index, row in enumerate(losses(measure, 1.9))]
