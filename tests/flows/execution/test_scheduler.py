"""Stages within what the machine has."""

import threading
import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.execution import resources
from flows.execution.resources import Machine, Request
from flows.execution.scheduler import Scheduler
from tasks import configuration as config_file
from tasks.io.system.ray_cluster import Needs
from tests.flows.conftest import ROOT

ONE = Request(cores=1)


def slots(number, graph):
    """A scheduler in which each stage takes one of so many cores."""
    return Scheduler(Machine(number, 8.0), graph, dict.fromkeys(graph, ONE))


def test_what_most_waits_for_is_begun_first():
    graph = {"fetch": (), "measure base": ("fetch",), "train": ("fetch",), "measure": ("train",)}
    graph["report"] = ("measure base", "measure")
    scheduler, order = slots(1, graph), []
    events = {stage: threading.Event() for stage in graph}

    def work(stage: str) -> None:
        for before in graph[stage]:
            events[before].wait(5)
        if stage == "train":
            time.sleep(0.2)  # it is its turn, though another asked before it
        with scheduler.allocation(stage):
            order.append(stage)
            scheduler.done(stage)
        events[stage].set()

    together(work, graph)
    assert order == ["fetch", "train", "measure base", "measure", "report"]


def test_what_reads_from_a_failed_stage_keeps_no_other_waiting():
    graph = {"fails": (), "after it": ("fails",), "alone": ()}
    scheduler, order = slots(1, graph), []

    def work(stage: str) -> None:
        with scheduler.allocation(stage):
            order.append(stage)
            if stage != "fails":
                scheduler.done(stage)

    together(work, ["fails", "alone"])
    assert order == ["fails", "alone"]


def test_a_stage_may_ask_again_and_lets_others_pass_until_it_does():
    scheduler, order = slots(1, {"busy": (), "other": (), "last": ("busy",)}), []
    with scheduler.allocation("busy"):
        pass
    with scheduler.allocation("other"):
        order.append("other")
        scheduler.done("other")
    with scheduler.allocation("busy"):
        order.append("busy")
        scheduler.done("busy")
    with scheduler.allocation("last"):
        order.append("last")
    assert order == ["other", "busy", "last"]


def test_a_large_stage_is_not_passed_for_ever_by_small_ones():
    small = {f"small {n}": () for n in range(4)}
    graph = {"long": (), "large": (), **small, "after it": ("long",), "at last": ("after it",), "end": ("large",)}
    requests = dict.fromkeys(graph, ONE) | {"large": Request(cores=2)}
    scheduler, order, working = Scheduler(Machine(2, 8.0), graph, requests), [], threading.Event()

    def work(stage: str) -> None:
        if stage != "long":
            working.wait(5)
        with scheduler.allocation(stage):
            order.append(stage)
            working.set()
            time.sleep(0.1 if stage == "long" else 0)
            if stage != "long":
                scheduler.done(stage)

    together(work, ["long", "large", *small])
    assert order[:2] == ["long", "large"]  # one core was free all the while


@st.composite
def workloads(draw):
    """A machine, a graph in plan order, and what its stages take, never more than there is."""
    machine = Machine(draw(st.integers(1, 8)), float(draw(st.integers(1, 16))), tuple("abc"[: draw(st.integers(0, 3))]))
    names = [f"s{n}" for n in range(draw(st.integers(1, 10)))]
    graph = {name: draw(st.sets(st.sampled_from(names[:n]))) if n else set() for n, name in enumerate(names)}
    request = st.builds(
        Request,
        cores=st.integers(1, machine.cores),
        memory_gb=st.floats(0, machine.memory_gb),
        gpus=st.integers(0, len(machine.gpus)),
    )
    fails = draw(st.sets(st.sampled_from(names), max_size=2))
    return machine, graph, {name: draw(request) for name in names}, fails


@settings(max_examples=40)
@given(workloads())
def test_no_workload_takes_more_than_there_is_and_all_that_can_is_done(workload):
    machine, graph, requests, fails = workload
    scheduler, guard, at_work, done = Scheduler(machine, graph, requests), threading.Lock(), {}, set()
    finished, over = {stage: threading.Event() for stage in graph}, []

    def look() -> None:
        cores, memory = (sum(getattr(requests[s], what) for s in at_work) for what in ("cores", "memory_gb"))
        gpus = [gpu for given in at_work.values() for gpu in given]
        if cores > machine.cores or memory > machine.memory_gb + 1e-3 or len(set(gpus)) < len(gpus):
            over.append(dict(at_work))

    def work(stage: str) -> None:
        for before in graph[stage]:
            finished[before].wait(5)
        if graph[stage] <= done:
            with scheduler.allocation(stage) as gpus:
                with guard:
                    assert graph[stage] <= done
                    at_work[stage] = list(gpus)
                    look()
                time.sleep(0.0005)
                with guard:
                    del at_work[stage]
                    if stage not in fails:
                        done.add(stage)
                if stage not in fails:
                    scheduler.done(stage)
        finished[stage].set()

    together(work, graph)
    assert not over
    lost = set(fails)
    for stage in graph:  # plan order
        lost |= {stage} if graph[stage] & lost else set()
    assert done == graph.keys() - lost


def together(work, stages):
    threads = [threading.Thread(target=work, args=(stage,)) for stage in stages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)


@pytest.fixture
def profile(tmp_path):
    """The settings of a profile with other sections in the place of some."""

    def read(name, **sections):
        tree = yaml.safe_load((ROOT / f"params/{name}.yaml").read_text()) | sections
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
        return config_file.load()

    return read


def test_what_a_stage_takes_follows_from_compute_unless_settings_say_otherwise(profile):
    read = profile("tiny", resources={"evaluate": {"cores": 1, "memory_gb": 3}})
    requests = resources.requests(["tune@r0", "evaluate@r0", "select", "shell"], read, Machine(4, 16.0))
    assert requests == {
        "tune@r0": Request(2, 8.0),
        "evaluate@r0": Request(1, 3.0),
        "select": Request(1, 4.0),
        "shell": Request(1, 4.0),
    }


def test_on_gpus_a_stage_that_runs_a_model_takes_one_for_each_process(profile):
    read = profile("tiny", compute={"device": "cuda", "processes": 2, "threads": 4})
    requests = resources.requests(["tune@r0", "select"], read, Machine(16, 64.0, ("0", "1")))
    assert (requests["tune@r0"], requests["select"].gpus) == (Request(8, 32.0, 2), 0)
    with pytest.raises(ValueError, match="Stage tune@r0 takes 2 of gpus, and this machine has 1"):
        resources.requests(["tune@r0"], read, Machine(16, 64.0, ("0",)))


def test_more_memory_than_there_is_is_told_before_anything_starts(profile):
    read = profile("tiny", resources={"tune": {"memory_gb": 99}})
    with pytest.raises(ValueError, match=r"takes 99 of memory_gb, and this machine has 8.*RATCHET_MEMORY_GB"):
        resources.requests(["tune@r1"], read, Machine(2, 8.0))


def test_a_stage_on_a_host_takes_nothing_here_and_a_host_runs_one_at_a_time(profile):
    read = profile("tiny", resources={"tune": {"host": "box"}, "select": {"host": "box", "memory_gb": 99}})
    requests = resources.requests(["tune@r0", "select", "fetch"], read, Machine(1, 8.0))
    assert requests["tune@r0"] == requests["select"] == Request(cores=0, host="box")
    scheduler, order = Scheduler(Machine(1, 8.0), dict.fromkeys(requests, ()), requests), []
    at_work, most = [], []

    def work(stage: str) -> None:
        with scheduler.allocation(stage):
            order.append(stage)
            at_work.append(stage)
            most.append(set(at_work))
            time.sleep(0.3)
            at_work.remove(stage)
            scheduler.done(stage)

    together(work, requests)
    assert {len(stages) for stages in most} == {1, 2}  # one there, and one here
    assert not any({"tune@r0", "select"} <= stages for stages in most)
    assert order[-1] == "select"  # this machine does not wait for the host's queue


def test_a_cluster_is_given_all_stages_that_are_ready(profile, tmp_path, monkeypatch):
    (tmp_path / "hosts.yaml").write_text("hosts: {nodes: {ray: auto}}")
    monkeypatch.setenv("RATCHET_HOSTS", str(tmp_path / "hosts.yaml"))
    read = profile("tiny", resources={"tune": {"host": "nodes"}, "select": {"host": "nodes", "cores": 9}})
    requests = resources.requests(["tune@r0", "select"], read, Machine(1, 8.0))
    scheduler = Scheduler(Machine(1, 8.0), dict.fromkeys(requests, ()), requests)
    both = threading.Barrier(2, timeout=30)

    def work(stage: str) -> None:
        with scheduler.allocation(stage):
            both.wait()

    together(work, requests)


def test_what_a_stage_takes_of_a_node_is_declared_or_follows_from_how_it_computes(profile):
    computes = {"compute": {"threads": 2, "processes": 3, "device": "cuda"}}
    read = profile("tiny", **computes, resources={"select": {"cores": 5, "memory_gb": 7, "gpus": 1}})
    assert resources.needs("tune", read) == Needs(6, 0.0, 3)
    assert resources.needs("select", read) == Needs(5, 7.0, 1)
    assert resources.needs("fetch", read) == Needs(1)


def test_more_threads_than_cores_do_not_keep_a_stage_from_running(profile):
    assert resources.requests(["tune@r0"], profile("tiny"), Machine(1, 8.0)) == {"tune@r0": Request(1, 8.0)}


def test_resources_of_a_stage_that_there_is_not_are_refused(profile):
    with pytest.raises(ValueError, match="resources: there is no stage 'tunes'"):
        profile("tiny", resources={"tunes": {"cores": 1}})


def test_the_environment_may_say_less_than_there_is_and_not_more(monkeypatch):
    full = resources.machine()
    monkeypatch.setenv("RATCHET_CORES", "1")
    monkeypatch.setenv("RATCHET_MEMORY_GB", "1.5")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5")
    monkeypatch.setenv("RATCHET_GPUS", "1")
    assert resources.machine() == Machine(1, 1.5, ("3",))
    monkeypatch.setenv("RATCHET_CORES", "10000")
    assert resources.machine().cores == full.cores


def test_a_container_has_the_cores_that_it_has_the_time_of(monkeypatch, tmp_path):
    monkeypatch.setattr(resources, "CGROUP_CPU", tmp_path / "cpu.max")
    for text, cores in (("max 100000", 8), ("150000 100000", 2), ("1600000 100000", 8)):
        (tmp_path / "cpu.max").write_text(text)
        monkeypatch.setattr(resources.os, "sched_getaffinity", lambda _pid: set(range(8)))
        assert resources.machine().cores == cores


def test_minus_one_is_no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert resources.machine().gpus == ()


@pytest.mark.parametrize("given", ["0", "-1", "two", ""])
def test_a_number_of_cores_that_is_none_is_reported(monkeypatch, given):
    monkeypatch.setenv("RATCHET_CORES", given)
    with pytest.raises(ValueError, match="RATCHET_CORES"):
        resources.machine()
