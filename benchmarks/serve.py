"""Rates of `ratchet serve` beside plain `transformers serve` and llama.cpp: `python benchmarks/serve.py [--rounds 3]`.

Needs a workspace whose `fetch` has run. All servers are up at once with the same weights and threads, and are asked in turn by `--clients`
clients that wait for each answer: greedy chat answers of at most `--tokens` tokens to paragraphs of this documentation. llama.cpp takes
part with `--gguf`, the same weights as a file: `llama-server` where it is on the PATH, else the same server of the package xllamacpp. Printed: requests and tokens a second, tokens a second
of the server's CPU time (its gateway's included), the median and the 95th percentile of seconds to an answer, and the ratio of
`ratchet serve` to each other side, paired by round. Before them, what the gateway adds to a request: `--pings` answers of one token, by one client.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from flows.execution import ports, supervisor  # noqa: E402

START_S = 600
PACKAGED = """
import sys, threading
import xllamacpp

file, port, threads = sys.argv[1:]
params = xllamacpp.CommonParams()
params.model.path, params.port, params.n_parallel, params.use_jinja = file, int(port), 4, True
params.hostnames, params.offline, params.ui = ["127.0.0.1"], True, False
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(threads)
server = xllamacpp.Server(params)
threading.Event().wait()
"""
"""llama.cpp's server as the package xllamacpp brings it, with the settings of the command line."""


@dataclass(frozen=True)
class Side:
    """A server that is up."""

    name: str
    url: str
    model: str
    process: "subprocess.Popen[bytes]"

    @property
    def cpu_s(self) -> float:
        """CPU seconds of all its processes until now."""
        root = psutil.Process(self.process.pid)
        times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
        return sum(time.user + time.system for time in times)


@dataclass(frozen=True)
class Round:
    """Figures of a side in one round."""

    requests_s: float
    tokens_s: float
    tokens_cpu_s: float
    latencies: list[float]


def main() -> None:
    """Run all sides in turn and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, default=Path("models/base"))
    parser.add_argument("--gguf", type=Path, help="the same weights for llama.cpp")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=32, help="of a side in a round")
    parser.add_argument("--tokens", type=int, default=32, help="of an answer at most")
    parser.add_argument("--pings", type=int, default=30)
    parser.add_argument(
        "--threads", type=int, default=1, help="of the sides beside Ratchet, whose number is compute.threads"
    )
    options = parser.parse_args()

    with ExitStack() as stack:
        sides = [stack.enter_context(server) for server in servers(options)]
        for side in sides:
            pings = [ask(side, "Hello", 1)[0] for _ in range(options.pings)]
            print(f"{side.name}: one token in {1000 * statistics.median(pings):.1f} ms (median)", flush=True)
        rounds: dict[str, list[Round]] = {side.name: [] for side in sides}
        for number in range(options.rounds):
            for side in sides if number % 2 == 0 else reversed(sides):
                rounds[side.name].append(load(side, options))
                last = rounds[side.name][-1]
                print(
                    f"round {number + 1}, {side.name}: {last.requests_s:.2f} requests/s, {last.tokens_s:.1f} tokens/s",
                    flush=True,
                )
    report(rounds)


def servers(options: argparse.Namespace) -> Iterator[Any]:
    """Yield the sides, each as a block in which it is up."""
    python, model = sys.executable, str(options.model)
    port = ports.free_port()
    yield up("ratchet serve", [python, "-m", "flows.commands", "serve", model, "--port", str(port)], port, model)
    port = ports.free_port()
    command = [
        python,
        "-m",
        "transformers.cli.transformers",
        "serve",
        model,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    yield up("transformers serve", [*command, "--device", "cpu", "--dtype", "float32"], port, model)
    if options.gguf:
        port = ports.free_port()
        where, threads = ["--host", "127.0.0.1", "--port", str(port)], ["--threads", str(options.threads)]
        command = ["llama-server", "--model", str(options.gguf), "--alias", model, "--jinja", "--no-ui", "--offline"]
        if not shutil.which("llama-server"):
            yield up("llama.cpp", [python, "-c", PACKAGED, str(options.gguf), str(port), threads[-1]], port, model)
        else:
            yield up("llama.cpp", [*command, *where, "--parallel", "4", *threads], port, model)


@contextmanager
def up(name: str, command: Sequence[str], port: int, model: str) -> Iterator[Side]:
    """Start a server, wait until it answers, and end it at the end of the block."""
    with tempfile.TemporaryFile() as log:
        env = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
        process = supervisor.start(list(command), env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            side, deadline = Side(name, f"http://127.0.0.1:{port}", model, process), time.monotonic() + START_S
            while not answers(side):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    sys.exit(f"{name} did not start:\n{log.read().decode(errors='replace')[-2000:]}")
                time.sleep(0.2)
            ask(side, "Hello", 1)
            yield side
        finally:
            supervisor.stop([process])


def answers(side: Side) -> bool:
    """Return True if the server says that it is well."""
    try:
        return httpx.get(f"{side.url}/health", timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def ask(side: Side, prompt: str, tokens: int, client: httpx.Client | None = None) -> tuple[float, int]:
    """Return the seconds to an answer, and its tokens."""
    body = {
        "model": side.model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "temperature": 0,
    }
    begun = time.perf_counter()
    answer = (client or httpx).post(f"{side.url}/v1/chat/completions", json=body, timeout=600)
    answer.raise_for_status()
    return time.perf_counter() - begun, answer.json()["usage"]["completion_tokens"]


def load(side: Side, options: argparse.Namespace) -> Round:
    """Ask a side by several clients at once, and return its figures."""
    waiting = iter(prompts(options.requests))
    lock, done = threading.Lock(), []

    def client() -> None:
        with httpx.Client() as connection:
            while True:
                with lock:
                    prompt = next(waiting, None)
                if prompt is None:
                    return
                done.append(ask(side, prompt, options.tokens, connection))

    threads = [threading.Thread(target=client) for _ in range(options.clients)]
    begun, cpu = time.perf_counter(), side.cpu_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds, cpu = time.perf_counter() - begun, side.cpu_s - cpu
    tokens = sum(count for _, count in done)
    if len(done) < options.requests:
        sys.exit(f"{side.name} answered {len(done)} of {options.requests} requests")
    return Round(len(done) / seconds, tokens / seconds, tokens / cpu, sorted(latency for latency, _ in done))


def prompts(count: int) -> list[str]:
    """Return questions about paragraphs of the documentation."""
    pages = sorted((ROOT / "docs/pages").rglob("*.md"))
    paragraphs = [text.strip() for page in pages for text in page.read_text(encoding="utf-8").split("\n\n")]
    usable = sorted(text for text in paragraphs if 100 <= len(text) <= 400 and text[0].isalpha())
    return [f"Say in other words: {usable[index * len(usable) // count]}" for index in range(count)]


def report(rounds: dict[str, list[Round]]) -> None:
    """Print a line for each side, and the ratios to the first."""
    first, *others = rounds
    print(f"\n{'':<20} {'requests/s':>10} {'tokens/s':>9} {'tokens/CPU-s':>13} {'median s':>9} {'p95 s':>7}")
    for side, each in rounds.items():
        latencies = sorted(latency for one in each for latency in one.latencies)
        figures = [
            statistics.median(getattr(one, name) for one in each) for name in ("requests_s", "tokens_s", "tokens_cpu_s")
        ]
        middle, late = statistics.median(latencies), latencies[int(0.95 * (len(latencies) - 1))]
        print(f"{side:<20} {figures[0]:>10.2f} {figures[1]:>9.1f} {figures[2]:>13.1f} {middle:>9.2f} {late:>7.2f}")
    for side in others:
        for name, label in (("tokens_s", "tokens/s"), ("tokens_cpu_s", "tokens/CPU-s")):
            ratios = sorted(
                getattr(ours, name) / getattr(theirs, name)
                for ours, theirs in zip(rounds[first], rounds[side], strict=True)
            )
            print(f"{first} / {side}, {label}: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
