"""What our DVC processes write into dvc.lock is what DVC writes, to the byte."""

import subprocess
import sys
from copy import deepcopy

import pytest
from dvc.utils import serialize

from flows.execution.dvc import cli, lock_writer

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # in dvc itself

FIRST = {"cmd": "cp a b", "deps": [{"path": "a", "hash": "md5", "md5": "0" * 32, "size": 3}]}
SECOND = {
    "cmd": ["one: two", "three\n  four\n"],
    "params": {"params.yaml": {"tune": {"rate": 1e-09, "none": None, "word": "on", "number": "1e3", "empty": {}}}},
    "outs": [{"path": "é" * 100, "hash": "md5", "md5": "1" * 32, "size": 3}],
}
LOCK = {"schema": "2.0", "stages": {"first": FIRST, "second@r0": SECOND, "third": {"cmd": "rm b"}}}


def by_dvc(path, update):
    """The file after DVC's own change of it."""
    with serialize.modify_yaml(path) as lock:
        update(lock)
    return path.read_text()


def by_us(path, update):
    with lock_writer._modify_lock(path) as lock:
        update(lock)
    return path.read_text()


UPDATES = {
    "another entry": lambda stages: stages.update({"second@r0": deepcopy(FIRST)}),
    "an entry that is equal": lambda stages: stages.update({"first": deepcopy(FIRST)}),
    "a new stage": lambda stages: stages.update({"a fourth: one": deepcopy(SECOND)}),
    "one stage less": lambda stages: stages.pop("first", None),
    "nothing": lambda stages: None,
}


@pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
@pytest.mark.parametrize("lock", [LOCK, {"schema": "2.0", "stages": {}}, LOCK | {"datasets": [{"name": "d"}]}])
def test_a_changed_lock_has_the_bytes_that_dvc_writes(tmp_path, lock, update):
    texts = []
    for name, change in (("by-dvc", by_dvc), ("by-us", by_us)):
        (tmp_path / name).write_text(serialize.dumps_yaml(lock))
        texts.append(change(tmp_path / name, lambda content: update(content["stages"])))
    assert texts[0] == texts[1]


def test_what_did_not_change_is_not_written_anew(tmp_path):
    path = tmp_path / "dvc.lock"
    path.write_text(serialize.dumps_yaml(LOCK).replace("cmd: rm b", 'cmd: "rm b"'))
    text = by_us(path, lambda lock: lock["stages"].update({"first": {"cmd": "cp a c"}}))
    assert text.startswith(f"{lock_writer.HEAD}  first:\n    cmd: cp a c\n  second@r0:\n")
    assert text.endswith('  third:\n    cmd: "rm b"\n')


@pytest.mark.parametrize(
    "text",
    ["", "stages: {first: {cmd: x}}\nschema: '2.0'\n", "schema: '2.0'\nstages:\n  # a remark\n  first:\n    cmd: x\n"],
    ids=["no file yet", "another form", "a comment"],
)
def test_a_file_in_another_form_is_written_from_scratch(tmp_path, text):
    path = tmp_path / "dvc.lock"
    if text:
        path.write_text(text)

    def update(lock):
        lock["schema"] = "2.0"
        lock.setdefault("stages", {})["second@r0"] = SECOND

    by_us(path, update)
    assert serialize.load_yaml(path)["stages"]["second@r0"] == SECOND
    assert ("first" in serialize.load_yaml(path)["stages"]) == bool(text)


def test_a_stage_of_a_flow_leaves_the_lock_of_plain_dvc(workspace, make):
    plain = make("plain")
    for stage in ("one", "side"):
        subprocess.run(cli.repro_command(stage), cwd=workspace.folder, env=workspace.environment, check=True)
        subprocess.run([sys.executable, "-m", "dvc", "repro", "-s", stage], cwd=plain.folder, check=True)
        assert workspace.lock == plain.lock
