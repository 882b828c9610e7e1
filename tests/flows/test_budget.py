"""Stages within their slots."""

import threading
import time

import pytest

from flows.budget import Budget, jobs


def test_no_more_work_than_there_are_slots():
    stages = [str(number) for number in range(6)]
    budget, guard, now, most = Budget(2, dict.fromkeys(stages, ())), threading.Lock(), [0], [0]

    def work(stage: str) -> None:
        with budget.slot(stage):
            with guard:
                now[0] += 1
                most[0] = max(most[0], now[0])
            time.sleep(0.02)
            with guard:
                now[0] -= 1

    together(work, stages)
    assert most == [2]


def test_what_most_waits_for_is_begun_first():
    graph = {"fetch": (), "measure base": ("fetch",), "train": ("fetch",), "measure": ("train",)}
    graph["report"] = ("measure base", "measure")
    budget, order = Budget(1, graph), []
    events = {stage: threading.Event() for stage in graph}

    def work(stage: str) -> None:
        for before in graph[stage]:
            events[before].wait(5)
        if stage == "train":
            time.sleep(0.2)  # it is its turn, though another asked before it
        with budget.slot(stage):
            order.append(stage)
            budget.done(stage)
        events[stage].set()

    together(work, graph)
    assert order == ["fetch", "train", "measure base", "measure", "report"]


def test_what_reads_from_a_failed_stage_keeps_no_other_waiting():
    graph = {"fails": (), "after it": ("fails",), "alone": ()}
    budget, order = Budget(1, graph), []

    def work(stage: str) -> None:
        with budget.slot(stage):
            order.append(stage)
            if stage != "fails":
                budget.done(stage)

    together(work, ["fails", "alone"])
    assert order == ["fails", "alone"]


def test_a_stage_may_ask_again_and_lets_others_pass_until_it_does():
    budget, order = Budget(1, {"busy": (), "other": (), "last": ("busy",)}), []
    with budget.slot("busy"):
        pass
    with budget.slot("other"):
        order.append("other")
        budget.done("other")
    with budget.slot("busy"):
        order.append("busy")
        budget.done("busy")
    with budget.slot("last"):
        order.append("last")
    assert order == ["other", "busy", "last"]


def together(work, stages):
    threads = [threading.Thread(target=work, args=(stage,)) for stage in stages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("given", ["0", "-1", "two", ""])
def test_a_number_of_jobs_that_is_none_is_told(monkeypatch, given):
    monkeypatch.setenv("RATCHET_JOBS", given)
    with pytest.raises(ValueError, match="RATCHET_JOBS"):
        jobs()
