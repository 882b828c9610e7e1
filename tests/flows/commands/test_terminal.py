"""What is printed: columns where they fit, lines of their own where they do not, colours on terminals alone."""

import os
import pty
import struct
import subprocess
import sys
from fcntl import ioctl
from termios import TIOCSWINSZ

import pytest

from flows.commands import _terminal

ROWS = [
    ("tune@r0", "run", "? 20–45 s", "0.1–2.0 GB", "methods.adamw.learning_rate: 0.003 → 0.002"),
    ("report", "may change", "–", "", "data/metrics may change"),
]


def test_a_pipe_gets_a_line_for_each_row():
    assert list(_terminal.lay_out(ROWS, None)) == [
        "tune@r0  run         ? 20–45 s  0.1–2.0 GB  methods.adamw.learning_rate: 0.003 → 0.002",
        "report   may change  –                      data/metrics may change",
    ]


def test_the_last_column_is_wrapped_beside_the_others():
    first, second = _terminal.lay_out(ROWS, 80)
    assert first.splitlines() == [
        "tune@r0  run         ? 20–45 s  0.1–2.0 GB  methods.adamw.learning_rate: 0.003 →",
        "                                            0.002",
    ]
    assert second == "report   may change  –                      data/metrics may change"


def test_a_narrow_terminal_gets_a_line_for_each_cell():
    lines = "\n".join(_terminal.lay_out(ROWS, 40)).splitlines()
    assert lines == [
        "tune@r0  run",
        "    ? 20–45 s",
        "    0.1–2.0 GB",
        "    methods.adamw.learning_rate: 0.003 →",
        "    0.002",
        "report  may change",
        "    –",
        "    data/metrics may change",
    ]


def test_a_column_that_is_empty_throughout_takes_no_room():
    assert list(_terminal.lay_out([("a", "", "x"), ("b", "", "y")], 80)) == ["a  x", "b  y"]
    assert list(_terminal.lay_out([], 80)) == []


def test_a_markdown_table_becomes_blocks():
    table = "|  | rate | loss |\n| --- | --- | --- |\n| lora * | 0.001 | 1.2 [1.1, 1.3] |\n| ia3 | 0.003 | — |"
    assert _terminal.stacked(table).splitlines() == [
        "lora *",
        "  rate: 0.001",
        "  loss: 1.2 [1.1, 1.3]",
        "ia3",
        "  rate: 0.003",
        "  loss: —",
    ]


def test_the_first_word_that_has_a_colour_is_coloured():
    said = _terminal._painted("fetch  run\n    it has not run yet", {"may change": "red", "run": "green"})
    assert said == "fetch  \x1b[32mrun\x1b[0m\n    it has not run yet"
    assert _terminal._painted("rerun it", {"run": "green"}) == "rerun it"
    assert _terminal._painted("any", {}) == "any"


def on_a_terminal(folder, columns, *command, **environment):
    """The output of a command on a terminal of so many columns."""
    ours, theirs = pty.openpty()
    ioctl(theirs, TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    quiet = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "TERM")}
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.commands", *command],
        cwd=folder, env=quiet | {"TERM": "xterm", "PYTHONPATH": str(_terminal.__file__).partition("/flows/")[0]} | environment,
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    parts = []
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # its other end is closed
            break
        if not part:
            break
        parts.append(part)
    assert process.wait(60) == 0
    os.close(ours)
    return b"".join(parts).decode().replace("\r\n", "\n")


def test_a_terminal_has_colours_and_lines_no_longer_than_itself(tmp_path):
    said = on_a_terminal(tmp_path, 40, "methods", "selectors")
    assert "\x1b[36mlisa\x1b[0m" in said
    plain = said.replace("\x1b[36m", "").replace("\x1b[0m", "")
    assert max(len(line) for line in plain.splitlines() if "https://" not in line) <= 40


@pytest.mark.parametrize("variable", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_are_left_out_where_they_are_not_wanted(tmp_path, variable):
    said = on_a_terminal(tmp_path, 80, "methods", "selectors", **variable)
    assert "\x1b" not in said
    assert "  lisa " in said


def test_a_pipe_gets_no_colours(workspace):
    assert "\x1b" not in workspace.ratchet("methods", "selectors", TERM="xterm-256color")


def test_progress_draws_no_bar_on_a_dumb_terminal(monkeypatch, capsys):
    from tasks.io.system import progress

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    assert list(progress.track(range(3), label="x")) == [0, 1, 2]
    assert capsys.readouterr().err == ""
