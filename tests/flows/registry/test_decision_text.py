"""A decision of the gate as a person reads it on Prefect's page."""

import pytest

from flows.registry import decision_text, promotion
from tests.flows.registry.test_promotion import nights  # noqa: F401  # a fixture is used by its name


def test_a_decision_has_its_verdict_its_bar_and_every_measure_with_its_interval(nights):  # noqa: F811
    nights.night("one", 1.9)
    first = decision_text.markdown(promotion.promote())
    assert first.startswith("**Version 1 (r0): promoted.** ")
    assert "It had to beat the base model. This was look 1, at an error level of 0.025." in first
    nights.night("worse elsewhere", 1.8, general=3.5)
    decision = promotion.promote()
    text = decision_text.markdown(decision)
    assert text.startswith("**Version 2 (r0): refused.** ")
    assert "It had to beat version 1." in text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert [row[0].strip("| ") for row in rows] == [check["measure"] for check in decision.checks]
    assert rows[-1][0] == "| general"
    assert rows[-1][-1] == "worse |"
    assert rows[-1][3].startswith("+0.5")


@pytest.mark.parametrize(
    ("worse_by", "cell"),
    [
        (None, "not measured"),
        ({"value": None, "low": None, "high": None}, "no number"),
        ({"value": -0.3433, "low": None, "high": None}, "-0.343 [none, none]"),
        ({"value": 0.1, "low": -0.05, "high": None}, "+0.100 [-0.050, none]"),
    ],
)
def test_a_bound_that_does_not_exist_is_told_so(nights, worse_by, cell):  # noqa: F811
    nights.night("one", 1.9)
    decision = promotion.promote()
    checks = [decision.checks[0] | {"worse_by": worse_by}]
    last = decision_text.markdown(decision.model_copy(update={"checks": checks})).splitlines()[-1]
    assert last.split(" | ")[3] == cell
