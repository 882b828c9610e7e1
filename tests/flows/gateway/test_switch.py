"""An alias follows what it stands for, under load, and through crashes, without a request lost."""

import threading
from collections import Counter
from pathlib import Path

import psutil

from tasks.core.operation import ServeConfig
from tests.flows.conftest import processes, wait_for
from tests.flows.gateway.conftest import STUB

CLIENTS = 8


class Load:
    """Clients that ask without a pause, every second one for a stream."""

    def __init__(self, gateway, prompt="hello"):
        self.answers, self.failures = Counter(), []
        self._gateway, self._prompt = gateway, prompt
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(CLIENTS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number):
        while not self._end.is_set():
            answer = self._gateway.ask(self._prompt, stream=number % 2 == 0, max_tokens=4)
            name = answer.headers.get("x-ratchet-model")
            whole = answer.text.endswith("data: [DONE]\n\n") if number % 2 == 0 else name in answer.text
            if answer.status_code != 200 or not whole or answer.text.count("error"):
                self.failures.append(answer.text)
            self.answers[name] += 1

    def hears(self, name, seconds=60):
        before = self.answers[name]
        wait_for(lambda: self.answers[name] >= before + CLIENTS, lambda: f"{self.answers} {self.failures}", seconds)


def workers(name):
    return processes(f"{name} {Path.cwd()}")


def test_promotions_and_rollbacks_under_eight_clients_lose_no_request(serving):
    with serving({"champion": "ratchet@1"}, ServeConfig()) as gateway, Load(gateway) as load:
        for name in ("ratchet@1", "ratchet@2", "ratchet@1", "ratchet@3", "ratchet@2"):
            gateway.models["champion"] = name
            load.hears(name)
    assert load.failures == []
    assert set(load.answers) == {"ratchet@1", "ratchet@2", "ratchet@3"}


def test_the_old_worker_ends_after_its_last_answer_and_not_before(serving):
    with serving({"champion": "ratchet@1"}, ServeConfig()) as gateway:
        answers = []
        asking = threading.Thread(target=lambda: answers.append(gateway.ask("hold go")))
        asking.start()
        wait_for(lambda: gateway.measured('ratchet_serve_queue{alias="champion"}') == 1, lambda: "")
        gateway.models["champion"] = "ratchet@2"
        wait_for(lambda: gateway.ask("now?").headers["x-ratchet-model"] == "ratchet@2", lambda: "", 60)
        assert workers("ratchet@1")
        Path("go").touch()
        asking.join()
        assert answers[0].json()["choices"][0]["text"] == "ratchet@1: hold go"
        wait_for(lambda: not workers("ratchet@1"), lambda: str(workers("ratchet@1")), 60)
        assert gateway.measured('ratchet_serve_model{alias="champion",model="ratchet@2"}') == 1
        assert gateway.measured('ratchet_serve_model{alias="champion",model="ratchet@1"}') == 0
    assert not workers("ratchet@2")


def test_a_model_that_does_not_answer_is_not_put_in_place(serving, capsys):
    with serving({"champion": "ratchet@1"}, ServeConfig()) as gateway:
        gateway.models["champion"] = "broken@2"
        failed = 'ratchet_serve_switches_total{alias="champion",outcome="failed"}'
        wait_for(lambda: gateway.measured(failed) == 1, lambda: "", 60)
        assert gateway.ask("still?").headers["x-ratchet-model"] == "ratchet@1"
        wait_for(lambda: not workers("broken@2"), lambda: "", 60)
        assert gateway.client.get("/health").status_code == 200
        gateway.models["champion"] = "ratchet@3"  # it is not waited for
        wait_for(lambda: gateway.ask("now?").headers["x-ratchet-model"] == "ratchet@3", lambda: "", 60)
    assert (
        "champion: broken@2 failed on the request: weights are torn. ratchet@1 stays in place."
        in capsys.readouterr().out
    )


def test_a_worker_that_is_killed_is_started_again_and_its_requests_are_asked_again(serving):
    with serving({"champion": "ratchet@1"}, ServeConfig()) as gateway:
        answers = []
        asking = threading.Thread(target=lambda: answers.append(gateway.ask("hold go")))
        asking.start()
        wait_for(lambda: gateway.measured('ratchet_serve_queue{alias="champion"}') == 1, lambda: "")
        (worker,) = [
            process
            for process in psutil.process_iter(["cmdline"])
            if (words := process.info["cmdline"] or [""]) and words[-1] == str(Path.cwd()) and words[3] == str(STUB)
        ]
        worker.kill()
        Path("go").touch()
        asking.join()
        assert answers[0].json()["choices"][0]["text"] == "ratchet@1: hold go"
        assert gateway.measured('ratchet_serve_worker_restarts_total{model="ratchet@1"}') == 1


def test_a_request_that_kills_its_worker_twice_is_told_so_and_others_are_answered(serving):
    with serving({"champion": "ratchet@1"}, ServeConfig()) as gateway:
        killed = gateway.ask("die")
        assert killed.status_code == 502
        assert killed.json()["error"]["message"] == "ratchet@1 ended before its answer was complete."
        assert gateway.ask("well?").status_code == 200


def test_several_models_are_served_by_name_each_by_its_worker(serving):
    models = {"champion": "ratchet@2", "r0": "r0@01234567", "2": "ratchet@2"}
    with serving(models, ServeConfig()) as gateway:
        asked = {name: gateway.ask("who?", name).json()["model"] for name in (*models, "r0@01234567", "ratchet@2")}
        assert asked == models | {"r0@01234567": "r0@01234567", "ratchet@2": "ratchet@2"}
        listed = gateway.client.get("/v1/models").json()["data"]
        assert {card["id"]: card["root"] for card in listed} == asked
        assert gateway.client.get("/v1/models/r0").json()["root"] == "r0@01234567"
        assert len(workers("ratchet@2")) == len(workers("r0@01234567")) > 0  # two aliases share one


def test_a_name_never_changes_its_meaning(serving):
    with serving({"champion": "ratchet@1"}, ServeConfig()) as gateway:
        gateway.models["champion"] = "ratchet@2"
        wait_for(lambda: gateway.ask("now?").headers["x-ratchet-model"] == "ratchet@2", lambda: "", 60)
        gone = gateway.ask("hello", "ratchet@1")
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "model_not_found")


def test_who_waits_for_a_name_is_not_answered_by_another_model(serving):
    with serving({"champion": "ratchet@1"}, ServeConfig()) as gateway:
        answers = []
        prompts = [("hold go", "champion"), ("hold go", "champion"), ("waits", "ratchet@1"), ("waits", "champion")]
        asking = [
            threading.Thread(target=lambda asked=asked: answers.append((asked, gateway.ask(*asked))))
            for asked in prompts
        ]
        for number, thread in enumerate(asking, 1):
            thread.start()
            wait_for(
                lambda number=number: gateway.measured('ratchet_serve_queue{alias="champion"}') == number, lambda: ""
            )
        gateway.models["champion"] = "ratchet@2"
        for thread in asking[2:]:
            thread.join()
        Path("go").touch()
        for thread in asking[:2]:
            thread.join()
        heard = dict(answers)
        assert heard["waits", "ratchet@1"].status_code == 404
        assert heard["waits", "champion"].headers["x-ratchet-model"] == "ratchet@2"
        assert heard["hold go", "champion"].headers["x-ratchet-model"] == "ratchet@1"
