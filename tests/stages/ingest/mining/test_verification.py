"""An example passes alone, is really tested, and cannot be passed by doing nothing. Checked in the real sandbox."""

from functools import partial
from itertools import count

import pytest

from tasks.core.records import Example, Refusal
from tasks.io import sandbox
from tasks.io.sources.package import folder
from tasks.stages.ingest.mining.candidates import mine_candidates
from tasks.stages.ingest.mining.verification import verify_candidates
from tests.stages.ingest.planting import candidate, plant

run = partial(sandbox.run, trusted=True)


def verified(tmp_path, text):
    (record,) = verify_candidates(mine_candidates(folder(plant(tmp_path, part=text))), run)
    return record


def function(body, doctest, head="def f(x):", before=""):
    doc = "".join(f"    {line}\n" for line in doctest.splitlines())
    return f'{before}{head}\n    """\n{doc}    """\n    {body}\n'


def test_a_function_that_passes_alone_is_kept(tmp_path):
    record = verified(tmp_path, function("return step(x)", ">>> f(1)\n2", before="def step(x):\n    return x + 1\n"))
    assert isinstance(record, Example)
    assert record.tests is not None
    assert record.tests.entry == "f"


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("fails_alone", function("return x + 1", ">>> f(1)\n3")),
        ("fails_alone", function("return x + ONE", ">>> f(1)\n2", before="import sys\nONE = len(sys.argv[99])\n")),
        ("trivial_passes", function("return x", ">>> f(1)\n1")),
        ("trivial_passes", function("x.append(1)", ">>> y = []\n>>> f(y)\n>>> type(y)\n<class 'list'>")),
        ("untested", function("return x + 1", ">>> y = f(1)")),
        ("untested", function("return x + 1", ">>> f(1)  # doctest: +SKIP\n2")),
    ],
)  # fmt: skip
def test_what_does_not_hold_is_refused_with_its_reason(tmp_path, reason, text):
    record = verified(tmp_path, text)
    assert isinstance(record, Refusal)
    assert (record.reason, record.where, record.source) == (reason, "f", "planted: part.py")
    assert record.record.startswith("def f(x):")


def test_third_party_packages_are_out_of_sight(tmp_path):
    before = "def helper(x):\n    import pydantic\n    return x + 1\n"
    record = verified(tmp_path, function("return helper(x)", ">>> f(1)\n2", before=before))
    assert isinstance(record, Refusal)
    assert record.reason == "fails_alone"
    assert "pydantic" in record.detail


def test_the_detail_says_which_trivial_body_passes(tmp_path):
    record = verified(tmp_path, function("return x", ">>> f(1)\n1"))
    assert isinstance(record, Refusal)
    assert "return x" in record.detail


def test_order_is_kept_and_every_candidate_comes_out_once(tmp_path):
    texts = {
        "a": function("return x + 1", ">>> f(1)\n2"),
        "b": function("return x + 1", ">>> f(1)  # doctest: +SKIP\n2"),
        "c": function("return x", ">>> f(1)\n1"),
        "d": function("return x + 1", ">>> f(2)\n3"),
        "e": function("return nowhere", ">>> f(1)\n2"),
    }
    records = list(verify_candidates(mine_candidates(folder(plant(tmp_path, **texts))), run))
    kinds = [item.reason if isinstance(item, Refusal) else item.group for item in records]
    assert kinds == ["planted.a", "untested", "trivial_passes", "planted.d", "unknown_name"]


def test_candidates_are_read_as_verdicts_come_in(tmp_path):
    mined = candidate(tmp_path, part=function("return x + 1", ">>> f(1)\n2"))
    taken = count()
    endless = ((next(taken), mined)[1] for _ in iter(int, 1))
    records = verify_candidates(endless, run)
    assert [next(records) for _ in range(3)] == [mined.example] * 3
    records.close()
    assert next(taken) < 50
