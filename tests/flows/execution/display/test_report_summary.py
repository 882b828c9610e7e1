"""The report's summary on terminals of any width."""

import pytest

from flows.execution.display import report_summary
from tasks.stages.report.render import summary_text

SUMMARY = """\
                       items  base                   r0                     r0 − base
loss, nats per token
  domain                  45  0.958 [0.777, 1.122]   0.847 [0.658, 1.018]   −0.111 [−0.137, −0.090]
trainable parameters          0                      4,884,480

Verdict: r0 is better here and no worse elsewhere: domain loss −0.111 [−0.137, −0.090] nats per
token, general loss −0.025 [−0.029, −0.016] against a margin of +0.050.
"""


def test_a_terminal_that_is_wide_enough_shows_the_file_as_it_is():
    assert list(report_summary.fitted(SUMMARY, 100)) == SUMMARY.splitlines()


@pytest.mark.parametrize("width", [40, 60])
def test_each_cell_of_a_table_has_a_line_of_its_own_on_a_narrow_one(width):
    lines = list(report_summary.fitted(SUMMARY, width))
    assert max(map(len, lines)) <= width
    assert lines[2:6] == [
        "  domain",
        "    items: 45",
        "    base: 0.958 [0.777, 1.122]",
        "    r0: 0.847 [0.658, 1.018]",
    ]
    assert "    r0 − base: −0.111 [−0.137, −0.090]" in lines
    assert lines[lines.index("  trainable parameters") + 1] == "    base: 0"
    assert " ".join(" ".join(lines[-5:]).split()).endswith(
        "nats per token, general loss −0.025 [−0.029, −0.016] against a margin of +0.050."
    )


@pytest.mark.parametrize("width", [40, 100])
def test_a_label_that_is_longer_than_its_column_is_whole_and_has_a_line_of_its_own(width):
    head = summary_text._line(("", "items", "base", "r0", "r0 − base"))
    row = summary_text._line(
        ("  tool_call result accuracy", "88", "0.0 [0.0, 4.1]", "79.5 [69.6, 87.4]", "+79.5 [+63.3, +88.3]")
    )
    lines = list(report_summary.fitted(f"{head}\n{row}\n", width))
    assert lines[1].strip() == "tool_call result accuracy"
    if width < 100:
        assert lines[2:4] == ["    items: 88", "    base: 0.0 [0.0, 4.1]"]
    else:
        assert lines[2].split() == row.splitlines()[1].split()
        assert lines[2].index("0.0 [") == head.index("base")


def test_tables_are_known_by_the_line_that_the_report_writes():
    head = summary_text._line(("turn by turn", "items", "before", "after", "difference"))
    assert (match := report_summary.HEAD.fullmatch(head))
    assert [name.strip() for name in match.groups()] == ["turn by turn", "before", "after", "difference"]
