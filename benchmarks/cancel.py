"""Time until a cancelled run has ended: `python benchmarks/cancel.py [--rounds 5]`.

In a workspace of profile `micro`, a run of one stage is started and stopped as soon as the stage works: by Ctrl-C, by SIGTERM, and, as
a run of the deployment, by `prefect flow-run cancel`. Printed: the seconds until no process of the run is left, median and range. The
first two times are Ratchet's own; the additional time of the third is Prefect's, whose worker polls for cancelled runs. Workspaces are
made once, in the folder that `benchmarks/chaos.py` uses.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import victims  # noqa: E402
import workspaces  # noqa: E402

from flows.execution import ports, prefect_server, supervisor  # noqa: E402
from tasks.io.system import progress  # noqa: E402

STAGE = "tune@r0"
WAYS = ("Ctrl-C", "SIGTERM", "prefect flow-run cancel")
SIGNALS = {"Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM}


class Bench:
    """Workspaces in which `STAGE` is the next to run, and the Prefect server that flows without a deployment share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        os.environ["PREFECT_HOME"] = str(folder / "prefect")
        self._server, self._url = prefect_server.start(ports.free_port(), ui=False)
        self._states = workspaces.States(folder, ROOT, "micro", None, STAGE, lambda: self._url)

    def close(self) -> None:
        """End the server."""
        supervisor.stop([self._server])

    def seconds(self, way: str, number: int) -> float:
        """Return the seconds until the processes of a run have ended after it is stopped this way."""
        space, mark = self._folder / "cancelled", f"{os.getpid()}-{number}"
        self._states.copy(len(self._states.order) - 1, space)
        environment = workspaces.environment(space) | {victims.MARK: mark}
        with victims.swept(mark):
            if way in SIGNALS:
                process = self._start(space, environment | {"PREFECT_API_URL": self._url}, "run", STAGE)
                return _seconds_until_ended(mark, process, frozenset(), lambda: process.send_signal(SIGNALS[way]))
            port = str(ports.free_port())
            process = self._start(space, environment | {"PREFECT_SERVER_API_PORT": port}, "up")
            deployment, idle = workspaces.deployed(self._log, process, port), frozenset(victims.marked(mark))
            run = workspaces.request_run(deployment, [STAGE])
            api = os.environ | {"PREFECT_API_URL": deployment.partition("/deployments")[0]}
            cancel = [sys.executable, "-m", "prefect", "flow-run", "cancel", run]
            return _seconds_until_ended(
                mark, process, idle, lambda: subprocess.run(cancel, env=api, check=True, stdout=subprocess.DEVNULL)
            )

    @property
    def _log(self) -> Path:
        return self._folder / "cancelled.log"

    def _start(self, space: Path, environment: dict[str, str], *command: str) -> "subprocess.Popen[bytes]":
        with self._log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "flows.commands", *command],
                cwd=space, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip


def _seconds_until_ended(
    mark: str, process: "subprocess.Popen[bytes]", idle: frozenset[int], stop: Callable[[], object]
) -> float:
    """Wait until the stage works, stop it, and return the seconds until no process is left except those of `idle`."""
    while victims.find(process.pid, lambda words: victims.is_stage(words, STAGE)) is None:
        if process.poll() is not None:
            raise RuntimeError(f"the run was over before {STAGE} began; {process.args}")
        time.sleep(victims.PACE_S)
    start = time.monotonic()
    stop()
    while True:
        process.poll()  # reap an ended process
        alive = victims.marked(mark)
        if all(pid in idle or victims.UPLOADER in words.split() for pid, words in alive.items()):
            return time.monotonic() - start
        time.sleep(victims.PACE_S)


def main() -> None:
    """Stop runs, and print the time of each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(".ratchet/chaos/micro"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.folder.resolve())
    took: dict[str, list[float]] = {way: [] for way in WAYS}
    try:
        for number in progress.track(range(options.rounds * len(WAYS)), label="cancel", unit="run"):
            way = WAYS[number % len(WAYS)]
            took[way].append(bench.seconds(way, number))
    finally:
        bench.close()
    for way, seconds in took.items():
        print(
            f"{way}: {statistics.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f}) until all was gone"
        )


if __name__ == "__main__":
    main()
