"""Stages within their slots."""

import threading
import time

import pytest

from flows.budget import Budget, jobs


def test_no_more_work_than_there_are_slots():
    budget, guard, now, most = Budget(2), threading.Lock(), [0], [0]

    def work(place: int) -> None:
        with budget.slot(place):
            with guard:
                now[0] += 1
                most[0] = max(most[0], now[0])
            time.sleep(0.02)
            with guard:
                now[0] -= 1

    threads = [threading.Thread(target=work, args=(place,)) for place in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert most == [2]


def test_a_free_slot_goes_to_the_first_in_the_plan():
    budget, order = Budget(1), []

    def work(place: int) -> None:
        with budget.slot(place):
            order.append(place)

    threads = [threading.Thread(target=work, args=(place,)) for place in (4, 2, 3, 1)]
    with budget.slot(0):
        for thread in threads:
            thread.start()
        while len(budget._waiting) < len(threads):
            time.sleep(0.01)
    for thread in threads:
        thread.join(5)
    assert order == [1, 2, 3, 4]


@pytest.mark.parametrize("given", ["0", "-1", "two", ""])
def test_a_number_of_jobs_that_is_none_is_told(monkeypatch, given):
    monkeypatch.setenv("RATCHET_JOBS", given)
    with pytest.raises(ValueError, match="RATCHET_JOBS"):
        jobs()
