"""The command of a stage on another machine: outputs here, nothing left there when anybody goes, one message where it cannot be."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from flows.execution.elsewhere import channel, connection, far_side, hosts, job, pins
from flows.execution.elsewhere.job import Job
from tasks.io.runs.run_store import SPOOL
from tests.flows.conftest import ROOT, processes, wait_for
from tests.flows.execution.elsewhere.conftest import of_git


@pytest.fixture
def folder(box, tmp_path, monkeypatch) -> Path:
    """A workspace of git alone; this process is in it."""
    made = of_git(tmp_path / "workspace")
    monkeypatch.chdir(made)
    return made


def stage(*commands, outs=("out.txt",)):
    return Job("one", commands, ["data/seen.txt"], list(outs), ["made_by_others.txt", "out.txt", "sub"])


def ran(*commands, outs=("out.txt",)):
    """The exit code, and what was said."""
    said = []
    return job.run("gpu-box", stage(*commands, outs=outs), said.append), "\n".join(said)


def test_a_stage_is_given_what_git_has_and_what_it_depends_on_and_nothing_else(folder, box):
    (folder / "made_by_others.txt").write_text("an output of another stage")
    (folder / "mlflow.db-journal").write_text("comes and goes while others record")
    code, said = ran("./tool > out.txt", "mkdir -p sub && find . -type f > sub/files.txt", outs=("out.txt", "sub"))
    assert (code, (folder / "out.txt").read_text()) == (0, "a\nb\n")
    given = {"./.gitignore", "./data/seen.txt", "./in.txt", "./tool"}
    assert set((folder / "sub/files.txt").read_text().split()) == given | {"./out.txt", "./sub/files.txt"}
    assert "4 files, of which 4 " in said
    (folder / "in.txt").write_text("c\n")
    code, said = ran("./tool > out.txt")
    assert (code, (folder / "out.txt").read_text()) == (0, "c\n")
    assert "4 files, of which 1 " in said  # the others lie there
    for number in (1, 0):  # a stage that writes into an input spoils it for itself alone
        code, said = ran("./tool > out.txt && chmod u+w in.txt && echo spoilt >> in.txt")
        assert (code, (folder / "out.txt").read_text()) == (0, "c\n")
        assert f"4 files, of which {1 - number} " in said


def test_a_folder_that_is_named_from_the_home_has_its_place_in_the_environment_of_the_stage(folder, box, tmp_path):
    (tmp_path / "home").mkdir()
    box.write(folder="own stages", python=f"""sh -c 'cd {tmp_path}/home; exec "$0" "$@"' {sys.executable}""")
    assert ran('cp "$DVC_ROOT/in.txt" out.txt')[0] == 0
    assert (tmp_path / "home/own stages").is_dir()


def test_a_link_to_a_folder_of_the_workspace_is_that_folder_there(folder, tmp_path):
    (folder / "sources/v2").mkdir(parents=True)
    (folder / "sources/v2/rows.txt").write_text("of v2\n")
    (folder / "sources/v2/.env").write_text("PASSWORD=hunter2hunter2")
    (folder / "sources/current").symlink_to("v2")
    (folder / "seen").symlink_to("data")
    (folder / "loop").symlink_to(".")
    (folder / "outside").symlink_to(tmp_path)
    shown = "find -L sources seen outside -type f 2>/dev/null | sort"
    code, said = ran(f"cat sources/current/rows.txt > out.txt; {shown} >> out.txt")
    assert code == 0, said
    assert (folder / "out.txt").read_text().splitlines() == [
        "of v2", "seen/seen.txt", "sources/current/rows.txt", "sources/v2/rows.txt"
    ]  # fmt: skip


def test_names_of_any_bytes_are_sent_there_and_back(folder):
    names = [b"-rf", b"caf\xe9.txt", b"a\nb", "\u00fc \u2028.txt".encode(), b'it\'s "$(so)"', b"back\\slash"]
    for name in names:
        Path(os.fsdecode(name)).write_bytes(name)
    code, said = ran("mkdir sub && cp -- * sub/ 2>/dev/null; test -e sub/-rf", outs=("sub",))
    assert code == 0, said
    assert {name: Path(os.fsdecode(b"sub/" + name)).read_bytes() for name in names} == {name: name for name in names}


def test_files_in_use_are_not_forgotten_there_and_others_are(folder, box, monkeypatch, tmp_path):
    """A file that stages may execute is a copy: its links do not tell that it is in use."""
    far_side_with(monkeypatch, tmp_path, "FORGET_S = 7 * 24 * 3600.0", "FORGET_S = 3.0")
    (folder / "old").write_text("of no use")
    (folder / "old").chmod(0o755)
    assert ran("./tool > out.txt")[0] == 0
    (folder / "old").unlink()
    wait_for(lambda: all(time.time() - path.stat().st_ctime > 3 for path in box.folder.glob("objects/??/*")))
    assert ran("./tool > out.txt")[0] == 0
    assert {path.read_text() for path in box.folder.glob("objects/??/*")} >= {(folder / "tool").read_text()}
    assert "of no use" not in {path.read_text() for path in box.folder.glob("objects/??/*")}


def test_a_file_there_that_a_power_failure_has_emptied_is_sent_again(folder, box):
    assert ran("./tool > out.txt")[0] == 0
    for kept in box.folder.glob("objects/??/*"):
        stat = kept.stat()
        kept.chmod(0o644)
        os.truncate(kept, 0)
        os.utime(kept, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    code, said = ran("./tool > out.txt")
    assert (code, (folder / "out.txt").read_text()) == (0, "a\nb\n")
    assert "4 files, of which 4 " in said


@pytest.mark.parametrize("beside", ["another", "none"])
def test_python_in_a_command_is_the_one_whose_versions_were_compared(folder, box, tmp_path, beside):
    """As on a system whose `python` is an older one, and `python: python3.12` in the hosts file."""
    (tmp_path / "its bin").mkdir()
    own = tmp_path / "its bin/python3.own"
    own.symlink_to(Path(sys.executable).resolve())
    if beside == "another":
        (own.parent / "python").write_text("#!/bin/sh\necho another\n")
        (own.parent / "python").chmod(0o755)
    box.write(python=f"env PYTHONPATH={os.pathsep.join(sys.path)} '{own}'")
    code, said = ran("python -c 'import sys; print(sys.executable)' > out.txt")
    assert (code, (folder / "out.txt").read_text()) == (0, f"{own}\n"), said


def test_a_stage_that_fails_or_writes_nothing_leaves_nothing_here(folder):
    code, said = ran("echo row 3 is bad; echo x > out.txt; exit 7", "echo not reached")
    assert code == 7
    assert "row 3 is bad" in said
    assert "not reached" not in said
    with pytest.raises(RuntimeError, match=r"one ended on gpu-box without writing out\.txt"):
        ran("true")
    assert not (folder / "out.txt").exists()


def test_folders_that_hold_nothing_are_sent_there_and_back(folder):
    (folder / "data/seen.txt").unlink()
    (folder / "data/seen.txt/of/a").mkdir(parents=True)  # the dependency
    assert ran("test -d data/seen.txt/of/a && mkdir -p sub/a && echo x > sub/b", outs=("sub",))[0] == 0
    assert {path.name: path.is_dir() for path in (folder / "sub").iterdir()} == {"a": True, "b": False}
    assert ran("mkdir sub", outs=("sub",))[0] == 0
    assert not list((folder / "sub").iterdir())


def test_a_stage_that_forgot_an_output_runs_again(folder, tmp_path):
    command = f"test -e {tmp_path}/second && cp in.txt out.txt; touch {tmp_path}/second"
    with pytest.raises(RuntimeError, match=r"ended on gpu-box without writing out\.txt"):
        ran(command)
    assert ran(command)[0] == 0


@pytest.mark.parametrize("path", ["../outside.csv", "/etc/hostname"])
def test_what_lies_outside_the_workspace_is_refused_on_both_sides(folder, tmp_path, monkeypatch, path):
    (tmp_path / "outside.csv").write_text("x")
    beside = Job("one", ["true"], [path], ["out.txt"], [])
    with pytest.raises(
        ValueError, match=rf"one: {path} lies outside the workspace, and gpu-box is sent only files of the workspace"
    ):
        job.run("gpu-box", beside, print)
    monkeypatch.setattr(job, "_files", lambda _: [{"path": path, "digest": "0" * 64, "size": 1, "executable": False}])
    with pytest.raises(channel.Unreachable, match=f"{path} lies outside the folder of the stage"):
        ran("true")


def cut_off(monkeypatch, command):
    """Let the connection end when the outputs are there and none has arrived."""

    def cut(*_args):
        raise ConnectionError("cut")

    with monkeypatch.context() as patch:
        patch.setattr(job, "_take_file", cut)
        with pytest.raises(ConnectionError):
            ran(command)


def test_what_was_finished_when_the_connection_ended_is_fetched_and_not_computed_again(
    folder, box, tmp_path, monkeypatch
):
    command = f"echo ran >> {tmp_path}/count; cp in.txt out.txt"
    cut_off(monkeypatch, command)
    assert ran(command)[0] == 0
    assert (folder / "out.txt").read_text() == "b\na\n"
    assert (tmp_path / "count").read_text() == "ran\n"
    assert ran(command)[0] == 0  # whoever has received it and asks again wants it computed
    assert (tmp_path / "count").read_text() == "ran\nran\n"


def test_what_was_finished_by_other_versions_is_computed_again(folder, box, tmp_path, monkeypatch):
    package = tmp_path / "packages/own-1.0.dist-info"
    package.mkdir(parents=True)
    box.write(python=f"env PYTHONPATH={package.parent} {sys.executable}")
    command = f"ls {package.parent} > out.txt"
    cut_off(monkeypatch, command)
    package.rename(package.with_name("own-2.0.dist-info"))
    assert ran(command)[0] == 0
    assert (folder / "out.txt").read_text() == "own-2.0.dist-info\n"


@pytest.mark.parametrize("left", [None, b""])
def test_what_was_finished_and_is_no_longer_there_as_it_was_is_computed_again(folder, box, monkeypatch, left):
    """Somebody tidied up there, or a power failure left the name of an output without its contents."""
    cut_off(monkeypatch, "cp in.txt out.txt")
    output = box.checkout("one") / "out.txt"
    output.unlink()
    if left is not None:
        output.write_bytes(left)
    assert ran("cp in.txt out.txt")[0] == 0
    assert (folder / "out.txt").read_text() == "b\na\n"


@pytest.mark.parametrize("changes", [1, job.ATTEMPTS])
def test_a_file_that_changes_while_it_is_sent_is_sent_anew_and_not_for_ever(folder, monkeypatch, changes):
    """DVC writes `.gitignore` where it takes in the outputs of a stage that ran beside this one."""
    files, asked = job._files, []

    def changed_afterwards(work):
        given = files(work)
        asked.append(work)
        if len(asked) <= changes:
            with (folder / ".gitignore").open("a") as ignored:
                ignored.write(f"/output-{len(asked)}\n")
        return given

    monkeypatch.setattr(job, "_files", changed_afterwards)
    if changes == job.ATTEMPTS:
        with pytest.raises(channel.Unreachable, match=r"\.gitignore changed while it was sent"):
            ran("cp in.txt out.txt")
        return
    code, said = ran("cp .gitignore out.txt")
    assert (code, (folder / "out.txt").read_text().splitlines()[-1]) == (0, "/output-1")
    assert said.count("changed while it was sent; once more") == 1


@pytest.mark.parametrize("happens", ["changed", "removed"])
def test_a_file_that_changes_or_goes_before_others_that_fill_the_connection_is_looked_at_anew(
    folder, monkeypatch, happens
):
    """The far side ends at the first file that is another, while this side sends the next one."""
    files, first = job._files, folder / "changes"
    first.write_text("as it was")
    (folder / "large").write_bytes(os.urandom(8 << 20))

    def changed_afterwards(work):
        given = files(work)
        if happens == "removed":
            first.unlink(missing_ok=True)
        else:
            first.write_text("as it is")
        return given

    monkeypatch.setattr(job, "_files", changed_afterwards)
    code, said = ran("ls > out.txt")
    assert (code, said.count("changed while it was sent; once more")) == (0, 1)
    assert ("changes" in (folder / "out.txt").read_text().split()) == (happens == "changed")


def far_side_with(monkeypatch, tmp_path, old, new):
    """Let the far side have another text at a place."""
    text = Path(far_side.__file__).read_text()
    assert old in text
    (tmp_path / "far_side.py").write_text(text.replace(old, new))
    monkeypatch.setattr(far_side, "__file__", str(tmp_path / "far_side.py"))


def test_a_disk_there_that_is_full_while_files_are_sent_is_reported(folder, monkeypatch, tmp_path):
    (folder / "large").write_bytes(os.urandom(8 << 20))
    far_side_with(monkeypatch, tmp_path, "partial.chmod(0o444)", "raise OSError(errno.ENOSPC, 'full')")
    with pytest.raises(channel.Unreachable, match=r"gpu-box: the disk is full there"):
        ran("cp in.txt out.txt")


def test_outputs_are_fetched_though_the_disk_there_is_full_by_then(folder, monkeypatch, tmp_path):
    noted = 'finished.write_text(_receipt(name, checkout, job["outs"]))'
    far_side_with(monkeypatch, tmp_path, noted, "raise OSError(errno.ENOSPC, 'full')")
    assert ran("cp in.txt out.txt")[0] == 0
    assert (folder / "out.txt").read_text() == "b\na\n"


def test_what_arrives_damaged_is_refused_on_both_sides(folder, monkeypatch):
    digests = job.provenance.digests
    with monkeypatch.context() as patch:
        patch.setattr(job.provenance, "digests", lambda path: dict.fromkeys(digests(path), "0" * 64))
        with pytest.raises(channel.Unreachable, match="changed while it was sent, or arrived damaged"):
            ran("cp in.txt out.txt")
    receive = job.Link.receive_file
    monkeypatch.setattr(job.Link, "receive_file", lambda *arguments: receive(*arguments) and "0" * 64)
    with pytest.raises(RuntimeError, match=r"out\.txt of gpu-box arrived damaged"):
        ran("cp in.txt out.txt")
    assert not (folder / "out.txt").exists()


@pytest.mark.parametrize("victim", ["stage", "far side", "connection", "owner"])
def test_whoever_is_killed_nothing_is_left_there_and_the_next_run_goes_on_from_what_lies_there(folder, box, victim):
    mark = f"sleep 42.{os.getpid()}{len(victim)}"
    command = (
        f"if [ -e .ratchet/half ]; then cp in.txt out.txt; else mkdir -p .ratchet; touch .ratchet/half; {mark}; fi"
    )
    program, errors = folder.parent / "owner.py", folder.parent / "errors.txt"  # the mark is in no command line here
    program.write_text(
        f"from flows.execution.elsewhere import job\nraise SystemExit(job.run('gpu-box', job.Job('one', [{command!r}], "
        "['data/seen.txt'], ['out.txt'], []), print))"
    )
    with errors.open("w") as out:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        owner = subprocess.Popen([sys.executable, program], env=environment, stdout=out, stderr=out)
    wait_for(lambda: mark in processes(mark), errors.read_text)
    (sleeper,) = (one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == mark.split())
    far_side = next(one for one in sleeper.parents() if str(box.folder) in one.cmdline())
    daemon = next(one for one in far_side.parents() if "sshd" in one.name())
    pids = {"stage": sleeper.pid, "far side": far_side.pid, "connection": daemon.pid, "owner": owner.pid}
    os.kill(pids[victim], signal.SIGKILL)
    assert owner.wait(60) != 0
    wait_for(lambda: not processes(mark) and not processes(str(box.folder)), lambda: str(processes(str(box.folder))))
    if victim in ("far side", "connection"):
        assert "unfinished work stays there: run it again" in errors.read_text()
    assert ran(command)[0] == 0
    assert (folder / "out.txt").read_text() == "b\na\n"


def test_what_a_run_records_there_comes_here_while_it_works(folder, monkeypatch):
    name, mark = "0123456789abcdef" * 2, f"sleep 44.{os.getpid()}"
    start = '{"kind": "start", "time": 1, "name": "there", "parent": "p", "tags": {"git.commit": "none"}}'
    commands = [
        f"mkdir -p .ratchet/spool && echo '{start}' > .ratchet/spool/.odd.jsonl && echo '{start}' > .ratchet/spool/{name}.jsonl",
        f"{mark}; cp in.txt out.txt",
    ]
    take = job.tracking.Relay.take

    def take_and_stop(relay, run, line):
        take(relay, run, line)
        if run == name:
            raise KeyboardInterrupt  # a flow that is stopped

    with monkeypatch.context() as patch:
        patch.setattr(job.tracking.Relay, "take", take_and_stop)
        with pytest.raises(KeyboardInterrupt):
            ran(*commands)
    wait_for(lambda: not processes(mark))
    (spool,) = SPOOL.glob("*.jsonl")
    assert spool.stem == name
    assert '"ratchet.host": "gpu-box"' in spool.read_text()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"python": "/no/such/python"}, r"there is no Python at `/no/such/python` there"),
        ({"ssh": "nobody-known@127.0.0.1"}, r"refuses the login.*must work without a question"),
        ({"options": ["-F", "none", "-p", "9"]}, r"Connection refused.*says how gpu-box is reached"),
        ({"options": "other keys"}, r"differs from the known one.*compare it"),
        ({"folder": "/proc/none"}, r"the far side did not start .*/proc/none"),
    ],
)
def test_a_host_that_cannot_be_used_is_one_message(box, changes, problem):
    if changes.get("options") == "other keys":
        changes = {"options": ["UserKnownHostsFile=/dev/null" if "Known" in o else o for o in box.entry["options"]]}
    box.write(**changes)
    with pytest.raises(channel.Unreachable, match=problem):
        job.check("gpu-box", "tune")


def test_a_shell_that_greets_is_no_obstacle(box):
    box.write(python=f'sh -c \'echo Welcome; exec "$0" "$@"\' {sys.executable}')
    assert job.check.__wrapped__("gpu-box", "tune").python == sys.version.split()[0]


def test_a_module_in_the_home_is_none_of_the_far_side(box, tmp_path):
    (tmp_path / "home").mkdir()
    for name in ("json", "platform"):
        (tmp_path / f"home/{name}.py").write_text("raise SystemExit('mine')")
    box.write(python=f"""sh -c 'cd {tmp_path}/home; exec "$0" "$@"' {sys.executable}""")
    assert job.check.__wrapped__("gpu-box", "tune").python == sys.version.split()[0]


def test_other_versions_there_are_named():
    same = far_side.packages()
    other = {name: version for name, version in same.items() if name != "peft"} | {"numpy": "1.0"}
    with pytest.raises(channel.Unreachable, match=r"Python 3\.9\.1 \(here .*numpy 1\.0 \(here .*peft is absent"):
        pins.check("gpu-box", hosts.Host(), connection.Facts("3.9.1", other, 0))
    build = f"{same['torch'].partition('+')[0]}+another"
    pins.check("gpu-box", hosts.Host(), connection.Facts(sys.version.split()[0], same | {"torch": build}, 0))


def test_a_host_that_the_file_lacks_and_no_file_are_reported(box, monkeypatch):
    with pytest.raises(ValueError, match=r"resources\.tune\.host: gpu-bux: .*Did you mean gpu-box\?"):
        hosts.find("gpu-bux", "tune")
    monkeypatch.setenv("RATCHET_HOSTS", "none.yaml")
    with pytest.raises(ValueError, match=r"there is no hosts file none\.yaml"):
        hosts.find("gpu-box", "tune")


def test_a_host_may_be_a_name_alone_and_what_no_shell_reads_is_told_with_its_place(box):
    box.hosts.write_text("hosts:\n  gpu-box:\n")
    assert hosts.find("gpu-box", "tune") == hosts.Host(ssh="gpu-box")
    for changes in {"python": "it's"}, {"python": ""}, {"folder": ""}:
        box.write(**changes)
        with pytest.raises(ValueError, match=rf"hosts\.yaml:\d+: hosts\.gpu-box\.{next(iter(changes))}: "):
            hosts.known()
