"""Rows per second, memory, and what was found of copies by stage `ingest`: `python benchmarks/ingest.py [--rows 100000] [--folder DIR]`.

A file of question/answer rows of some 60 words each is made: one in ten is an exact copy of an earlier row, one in twenty a near
copy (two words of the answer changed), one in a hundred holds the answer of another row between words of its own. Stage `ingest`
reads, normalises, merges exact and near duplicates, looks for contamination, splits and writes, in a process of its own. What it
refuses is compared with what was planted. `--again` ingests the file once more with one row in a hundred added, `--workers 2` has two
processes, `--ray 3` has three pairs of runs, by two processes and by a Ray cluster of two nodes on this machine, `--profile` lists the functions that take the most CPU time, with all that they call. Memory is what the stage's processes hold beside files (`RssAnon`), looked at ten times a second.
"""

import argparse
import json
import os
import pstats
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tasks.core import environment  # noqa: E402  # after the path, where this runs as a script
from tasks.io import provenance  # noqa: E402

WORDS = 20_000
ORIGINALS = 100_000
"""Rows that copies are made of."""
PROFILED = 60
"""Functions that a profile shows."""
SHARES = {"exact": 0.10, "near": 0.05, "holding": 0.01}


@dataclass
class Planted:
    """The rows of the file: its line, the kind of row, and the line of the row that it was made from."""

    kinds: dict[str, list[int]] = field(default_factory=lambda: {kind: [] for kind in SHARES})
    parents: dict[int, int] = field(default_factory=dict)


def rows(number: int, planted: Planted, seed: int = 0) -> Iterator[dict[str, str]]:
    """Yield the rows, and note which of them are copies."""
    draw = random.Random(seed)
    vocabulary = [f"{draw.choice('bdfgklmnprst')}{draw.choice('aeiou')}{word:x}" for word in range(WORDS)]
    originals: list[tuple[int, str, str]] = []
    kinds = [*SHARES, "original"]
    weights = [*SHARES.values(), 1 - sum(SHARES.values())]
    for line in range(1, number + 1):
        kind = draw.choices(kinds, weights)[0] if originals else "original"
        question, answer = (" ".join(draw.choices(vocabulary, k=length)) for length in (15, 45))
        if kind == "original":
            if len(originals) < ORIGINALS:
                originals.append((line, question, answer))
        else:
            parent, *texts = draw.choice(originals)
            planted.kinds[kind].append(line)
            planted.parents[line] = parent
            if kind == "holding":
                answer = f"{' '.join(draw.choices(vocabulary, k=30))} {texts[1]} {answer}"
            else:
                question, answer = texts
            if kind == "near":
                words = answer.split()
                for place in draw.sample(range(len(words)), 2):
                    words[place] = draw.choice(vocabulary)
                answer = " ".join(words)
        yield {"question": question, "answer": answer}


def write(path: Path, number: int, seed: int = 0, mode: str = "w") -> Planted:
    """Write a file of rows and return what was planted in it."""
    planted = Planted()
    with path.open(mode, encoding="utf-8") as file:
        for row in rows(number, planted, seed):
            file.write(json.dumps(row) + "\n")
    return planted


STAGE = """
import cProfile, os, sys, time
from pathlib import Path
from tasks.io.system import progress
from tasks.stages.ingest import stage
from tasks.stages.ingest.config import StageConfig
from tests.support import ScratchRun

class Run(ScratchRun):
    def track(self, items, *, total=None, unit="item", status=lambda: ""):
        return progress.track(items, label="ingest", total=total, unit=unit, status=status)

folder, path, workers = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
config = StageConfig.model_validate({
    "compute": {"threads": workers},
    "ingest": {"sources": [{"from": "file", "path": path}], "near_duplicates": {"cosine": None}},
})
outputs = {"ingested": folder / "out/ingested", "examples": folder / "out/examples.parquet"}
profile = cProfile.Profile(time.process_time)
if sys.argv[4]:
    profile.enable()
stage.main({"embedder": folder, "raw": folder, "decisions": Path(os.devnull)}, outputs, config, Run(folder))
if sys.argv[4]:
    profile.dump_stats(sys.argv[4])
"""


@dataclass(frozen=True)
class Cost:
    """What a run of the stage took."""

    wall_s: float
    cpu_s: float
    peak_gb: float
    """Anonymous memory of all its processes."""


def ingest(folder: Path, path: Path, workers: int, profile: Path | None = None) -> Cost:
    """Run the stage, with its scratch and its outputs below `folder`; write a profile of its CPU time if there is a path for it."""
    return run(STAGE, [str(folder), str(path), str(workers), str(profile or "")])


def run(program: str, arguments: list[str], code: Path = ROOT) -> Cost:
    """Run a program of Python with the project's code in the folder `code`."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-c", program, *arguments]
    variables = os.environ | {"PYTHONPATH": str(code)}
    peak_kb = 0
    with subprocess.Popen(command, cwd=code, env=variables) as process:
        while process.poll() is None:
            peak_kb = max(peak_kb, sum(map(anonymous_kb, family(process.pid))))
            time.sleep(0.1)
    if process.returncode:
        raise SystemExit(process.returncode)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(time.perf_counter() - start, cpu_s, peak_kb / 2**20)


@contextmanager
def cluster() -> Iterator[None]:
    """Have the runs within the block done by a Ray cluster of two nodes with a processor each, which come from this machine."""
    os.environ.update(
        {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    )  # read when it is imported
    from ray.cluster_utils import Cluster

    node = {"node_ip_address": "127.0.0.1", "object_store_memory": 256 << 20}
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **node})
    try:
        for _ in range(2):
            started.add_node(num_cpus=1, **node)
        os.environ[environment.RAY] = started.address
        yield
    finally:
        os.environ.pop(environment.RAY, None)
        started.shutdown()


def compare(folder: Path, path: Path, number: int, pairs: int) -> None:
    """Print rows a second by two processes and by a cluster, in turn, and whether both wrote the same bytes."""
    ratios, digests = [], set()
    for _ in range(pairs):
        here = ingest(folder, path, workers=2)
        digests.add(provenance.digest(folder / "out/examples.parquet"))
        with cluster():
            there = ingest(folder, path, workers=2)
        digests.add(provenance.digest(folder / "out/examples.parquet"))
        ratios.append(here.wall_s / there.wall_s)
        print(
            f"{number / here.wall_s:,.0f} rows/s by two processes, {number / there.wall_s:,.0f} by a cluster",
            flush=True,
        )
    print(f"cluster / processes: {', '.join(f'{ratio:.2f}' for ratio in ratios)}; {len(digests)} kind of examples")


def family(pid: int) -> list[int]:
    """Return a process and its descendants."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [pid, *(descendant for child in children for descendant in family(int(child)))]


def anonymous_kb(pid: int | str) -> int:
    """Return the anonymous memory of a process, in kilobytes."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def findings(outputs: Path, planted: Planted, number: int) -> str:
    """Return the share of rows, for each planted kind and for the others, that were refused or caused another row to be refused."""
    quarantine = pl.read_parquet(outputs / "ingested/quarantine.parquet", columns=["where", "detail"])
    refused = {int(where.rsplit(" ", 1)[1]) for where in quarantine["where"]}
    splits = split_of_lines(outputs, {*planted.kinds["holding"], *map(planted.parents.get, planted.kinds["holding"])})
    parts = []
    for kind in ("exact", "near"):
        # Of a pair of copies, the held-out one is kept.
        pairs = [(line, planted.parents[line]) for line in planted.kinds[kind]]
        parts.append(f"{sum(bool(refused & {*pair}) for pair in pairs) / max(1, len(pairs)):.4%} of {kind} copies")
    leaks = [
        line
        for line in planted.kinds["holding"]
        if splits.get(planted.parents[line], "train") != "train" and (line in refused or splits.get(line) == "train")
    ]
    parts.append(
        f"{sum(line in refused for line in leaks) / max(1, len(leaks)):.4%} of {len(leaks)} rows that hold an evaluation text"
    )
    related = {*planted.parents, *planted.parents.values()}
    wrong = sum(line not in related for line in refused)
    return f"refused: {', '.join(parts)}; {wrong} of {number - len(related):,} rows that are like no other"


def split_of_lines(outputs: Path, wanted: set[int]) -> dict[int, str]:
    """Return the split of each of the wanted lines that was kept."""
    paths = [outputs / "examples.parquet", *(outputs / f"ingested/{split}.parquet" for split in ("valid", "test"))]
    line = pl.col("source").str.split(" ").list.last().cast(pl.Int64)
    tables = (pl.scan_parquet(path).select(line.alias("line"), "split") for path in paths)
    return dict(pl.concat(tables).filter(pl.col("line").is_in(sorted(wanted))).collect(engine="streaming").iter_rows())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="ingest once more, with one row in a hundred added")
    parser.add_argument(
        "--ray", type=int, default=0, help="pairs of runs by two processes and by a Ray cluster of two nodes"
    )
    parser.add_argument("--profile", action="store_true", help="list the functions that take the most CPU time")
    parser.add_argument("--folder", type=Path, help="where everything is written; it is removed at the end")
    options = parser.parse_args()
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        path = folder / "rows.jsonl"
        planted = write(path, options.rows)
        if options.ray:
            compare(folder, path, options.rows, options.ray)
            return
        profile = folder / "profile" if options.profile else None
        report(options.rows, ingest(folder, path, options.workers, profile), profile)
        print(findings(folder / "out", planted, options.rows))
        if options.again:
            write(path, options.rows // 100, seed=1, mode="a")
            report(options.rows, ingest(folder, path, options.workers, profile), profile)
    finally:
        shutil.rmtree(folder)


def report(number: int, cost: Cost, profile: Path | None) -> None:
    """Print what a run took, and its profile if there is one."""
    print(f"{number:,} rows: {number / cost.cpu_s:,.0f} rows per CPU-second, {number / cost.wall_s:,.0f} rows/s "
          f"({cost.wall_s:,.0f} s), peak {cost.peak_gb:.2f} GiB", flush=True)  # fmt: skip
    if profile:
        pstats.Stats(str(profile)).sort_stats("cumulative").print_stats("/tasks/", PROFILED)


if __name__ == "__main__":
    main()
