"""What a run is foretold to do, against what DVC then does; and the lock file's one form."""

import random
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from flows.execution.dvc import cache, forecast, lock_file

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # in dvc itself


def states(targets=()):
    return {step.stage: step.state for step in forecast.plan(targets)}


def why(stage):
    return next(step.why for step in forecast.plan() if step.stage == stage)


def repro(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_before_the_first_run_everything_runs_in_dvcs_order(workspace):
    assert list(states().items()) == [(name, "run") for name in ("one", "two", "side", "last")]
    assert why("side") == ("it has not run yet",)


def test_a_finished_workspace_is_unchanged(done):
    assert set(states().values()) == {"unchanged"}


def test_a_step_names_what_it_reads_from(done):
    assert {step.stage: set(step.upstream) for step in forecast.plan()} == {
        "one": set(),
        "two": {"one"},
        "side": set(),
        "last": {"two", "side"},
    }


def test_a_target_brings_only_what_it_needs(done):
    assert list(states(["two"])) == ["one", "two"]


def test_a_changed_setting_is_told_with_both_values_and_may_change_all_that_follows(done):
    done.edit("params.yaml", "threads: 2", "threads: 1")
    assert states() == {"one": "run", "two": "may change", "side": "unchanged", "last": "may change"}
    assert why("one") == ("compute.threads: 2 → 1",)
    assert why("last") == ("two/sorted.txt may change",)


def test_changed_code_is_told_as_code(done):
    done.path("code.py").write_text("x = 2\n")
    assert states()["two"] == "run"
    assert why("two") == ("code code.py changed",)


def test_a_changed_command_is_reported(done):
    done.edit("dvc.yaml", "cp in.txt side.txt", "cat in.txt > side.txt")
    assert why("side") == ("its command changed",)


def test_a_missing_input_is_reported(done):
    done.path("in.txt").unlink()
    assert why("side") == ("in.txt is missing",)


def test_a_new_output_is_told_and_its_stage_runs(done):
    done.path("copy.txt").write_text("of long ago\n")
    done.edit("dvc.yaml", "outs: [side.txt]", "outs: [side.txt, copy.txt]")
    assert states() == {"one": "unchanged", "two": "unchanged", "side": "run", "last": "may change"}
    assert why("side") == ("copy.txt is a new output",)


def test_a_lost_output_is_restored_and_what_follows_is_unchanged(done):
    done.path("one.txt").unlink()
    assert states() == {"one": "restored", "two": "unchanged", "side": "unchanged", "last": "unchanged"}
    assert why("one") == ("one.txt is missing",)


def test_a_step_back_is_restored_all_the_way(done):
    done.path("in.txt").write_text("d\nc\n")
    repro("--quiet")
    done.path("in.txt").write_text("b\na\n")
    # `two` and `last` are foretold from files that are not there yet, one of them inside a folder.
    assert states() == {"one": "restored", "two": "restored", "side": "restored", "last": "restored"}


def test_an_output_gone_from_the_cache_as_well_has_to_run(done):
    done.path("last.txt").unlink()
    for entry in done.path(".dvc/cache/files/md5").rglob("*"):
        if entry.is_file() and entry.read_text() == "a\nb\nb\na\n":
            entry.unlink()
    assert states()["last"] == "run"


EDITS = {
    "data": lambda space, number: space.path("in.txt").write_text(f"{number % 3}\n1\n"),
    "same when sorted": lambda space, number: space.path("in.txt").write_text("b\na\n" if number % 2 else "a\nb\n"),
    "setting": lambda space, number: space.path("params.yaml").write_text(
        space.path("params.yaml").read_text().replace("threads: 2", "threads: 4")
        if number % 2
        else space.path("params.yaml").read_text().replace("threads: 4", "threads: 2")
    ),
    "code": lambda space, number: space.path("code.py").write_text(f"x = {number % 2}\n"),
    "new output": lambda space, number: space.path("dvc.yaml").write_text(
        space.path("dvc.yaml").read_text().replace("outs: [side.txt]", "outs: [side.txt, copy.txt]")
        if number % 2
        else space.path("dvc.yaml").read_text().replace("outs: [side.txt, copy.txt]", "outs: [side.txt]")
    ),
    "lost": lambda space, number: space.path("last.txt").unlink(missing_ok=True),
    "nothing": lambda space, number: None,
}


def possible(step):
    """What may become of a step. Where an input is open, an earlier run with that very input may be at hand."""
    is_open = any(reason.endswith("may change") for reason in step.why)
    return {
        "unchanged": {"unchanged"},
        "restored": {"restored"},
        "run": {"run", "restored"} if is_open else {"run"},
        "may change": {"run", "restored", "unchanged"},
    }[step.state]


def test_the_plan_is_what_dvc_does_after_random_edits(done):
    done.edit("dvc.yaml", "cmd: cp in.txt side.txt", "cmd: cp in.txt side.txt && cp in.txt copy.txt")
    draw = random.Random(0)
    for number in range(5):
        for name in draw.sample(list(EDITS), 2):
            EDITS[name](done, number)
        foretold = forecast.plan()
        said = repro()
        for step in foretold:
            words = {"run": "Running stage '{}'", "restored": "Stage '{}' is cached", "unchanged": "Stage '{}' didn't"}
            (became,) = [state for state, text in words.items() if text.format(step.stage) in said]
            assert became in possible(step), (number, step, said)


def test_the_canonical_lock_is_that_of_a_fresh_repro_in_one_go(make, done):
    fresh = done.lock
    other = make("other")
    for stage in ("side", "one", "two", "last"):
        other.run("dvc", "repro", "--single-item", stage)
    assert other.lock != fresh
    assert other.ratchet("tidy").startswith("dvc.lock is in canonical form now")
    assert other.lock == fresh
    assert lock_file.tidy() is False
    assert done.lock == fresh


def test_values_that_yaml_writes_in_many_ways_survive_tidying(done):
    done.path("odd.yaml").write_text(
        "odd: {small: 1e-5, big: 1.0e+20, yes: 'yes', text: 'a: b # c', long: '"
        + "word " * 40
        + '\', lines: "a\\nb", none: null}\n'
    )
    done.path("dvc.yaml").write_text(
        done.path("dvc.yaml").read_text()
        + "  odd:\n    cmd: cp in.txt odd.txt\n    params: [{odd.yaml: [odd]}]\n    deps: [in.txt]\n    outs: [odd.txt]\n"
    )
    repro("--quiet")
    before = done.lock
    assert lock_file.tidy() is False
    assert done.lock == before


def test_stale_entries_leave_the_lock(done):
    text = done.path("dvc.yaml").read_text()
    done.path("dvc.yaml").write_text(text[: text.index("  side:")].replace(" side.txt", "").replace(", side.txt", ""))
    assert lock_file.tidy()
    assert b"side:" not in done.lock


def test_stages_that_dvc_yaml_has_no_more_are_reported(done):
    assert lock_file.obsolete_stages() == []
    done.edit("dvc.yaml", "  side:", "  aside:")
    done.edit("dvc.yaml", "outs: [side.txt]", "outs: [side.txt]")
    assert lock_file.obsolete_stages() == ["side"]


@pytest.mark.parametrize("stages", [["two"], ["one", "two", "side", "last"]])
def test_outputs_share_their_bytes_with_the_cache_after_relinking(done, stages):
    assert done.path("two/sorted.txt").stat().st_nlink == 1
    cache.relink(stages)
    assert done.path("two/sorted.txt").stat().st_nlink > 1
    assert set(states().values()) == {"unchanged"}


def test_a_cycle_is_one_message_that_names_its_stages(workspace):
    workspace.edit("dvc.yaml", "deps: [in.txt]\n    params", "deps: [in.txt, last.txt]\n    params")
    with pytest.raises(ValueError, match=r"wait for each other: .*last"):
        forecast.plan()


def test_an_unknown_stage_gets_near_matches(done):
    with pytest.raises(ValueError, match=r"no stage 'sid'\. Did you mean side"):
        forecast.plan(["sid"])


def test_a_graph_that_does_not_parse_is_one_message(workspace):
    workspace.edit("dvc.yaml", "outs: [one.txt]", "outs: [one.txt")
    with pytest.raises(ValueError, match=r"dvc\.yaml"):
        forecast.plan()


def test_a_graph_without_stages_is_refused(workspace):
    workspace.path("dvc.yaml").write_text("stages: {}\n")
    with pytest.raises(ValueError, match="no stage"):
        forecast.plan()


def test_a_workspace_without_git_is_told_what_makes_it_one(workspace):
    shutil.rmtree(workspace.path(".git"))
    with pytest.raises(ValueError, match=r"is not a git repository\. Make it one: git init; or .* core\.no_scm true"):
        forecast.plan()
    subprocess.run(["git", "init", "--quiet"], check=True)
    assert len(forecast.plan()) == 4


def test_a_workspace_that_the_repository_around_it_ignores_is_told_as_such(workspace):
    shutil.rmtree(workspace.path(".git"))
    around = workspace.folder.parent
    subprocess.run(["git", "init", "--quiet", around], check=True)
    (around / ".gitignore").write_text("/workspace/\n")
    with pytest.raises(ValueError, match=r"dvc\.yaml is ignored by the git repository around .*git init"):
        forecast.plan()


def test_another_folder_is_told_as_such(tmp_path):
    with pytest.raises(FileNotFoundError, match="project's root folder"):
        forecast.plan()


def test_missing_dvc_is_told_with_what_installs_it(done, monkeypatch):
    monkeypatch.setitem(sys.modules, "dvc.exceptions", None)
    with pytest.raises(RuntimeError, match="pip install"):
        forecast.plan()


def test_of_many_files_of_code_three_are_named():
    changed = [f"code tasks/{name}.py changed" for name in "abcde"]
    step = forecast.Step("tune@r0", "run", ("tune.seed: 0 → 1", *changed, "models/base may change"), ())
    assert step.reasons == (
        "tune.seed: 0 → 1; code tasks/a.py changed; code tasks/b.py changed; code tasks/c.py changed; 2 more files of code; "
        "models/base may change"
    )
    few = replace(step, why=tuple(changed[:3]))
    assert few.reasons == "; ".join(changed[:3])
