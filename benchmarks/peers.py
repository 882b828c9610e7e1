"""Stage `ingest` against other tools on the same rows: `python benchmarks/peers.py TASK --venvs DIR [--rows 100000] [--rounds 3]`.

TASK `prepare`: read JSON lines, normalise, merge exact and near duplicates (Jaccard 0.7 of three-word runs, 128 permutations in 32
bands), split 75/10/15, leave out of training what holds a text that is held out, write Parquet. Against datatrove, Data-Juicer, and
`datasets` with datasketch. Each is told its fastest way of cutting words that finds these runs; what a tool lacks (splits,
contamination in two of them) is a plain function of Python. Which planted copies each leaves and which other rows it loses is counted.
TASK `duplicates`: texts in memory to those that are no near copy of an earlier one, against datasketch.
TASK `read`: a file to shards that are normalised and hashed, against `Dataset.from_json` alone, and with the same normalisation by `map`.

Times are seconds of CPU time of a tool and its children, after its imports. The tools take turns in each round; ratios are of one
round, with their range over all. DIR has an environment for each tool:

    for name in datatrove juicer datasets; do python -m venv DIR/$name; done
    DIR/datatrove/bin/pip install "datatrove[io,processing]==0.10.1"
    DIR/juicer/bin/pip install "py-data-juicer==1.6.1" aiohttp
    DIR/datasets/bin/pip install datasets datasketch
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from peer_tools import SPLITS, TASKS  # beside this file


def work(task: str, tool: str, path: Path, out: Path) -> None:
    """Run a tool in this process and print its CPU time in seconds."""
    run = TASKS[task][tool][1](path, out)
    before = _cpu_s()
    run()
    print(json.dumps({"cpu_s": _cpu_s() - before}), flush=True)


def _cpu_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measured(task: str, tool: str, path: Path, out: Path, venvs: Path) -> float:
    """Run a tool in a process of its environment and return its CPU time in seconds."""
    environment = TASKS[task][tool][0]
    python = venvs / environment / "bin/python" if environment else Path(sys.executable)
    if not python.exists():
        raise SystemExit(f"There is no {python}; `python benchmarks/peers.py -h` says what to install.")
    out.mkdir()
    variables = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    command = [str(python), __file__, task, "--work", tool, str(path), str(out)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{tool}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    seconds: float = json.loads(done.stdout.splitlines()[-1])["cpu_s"]
    return seconds


def kept_lines(task: str, out: Path) -> dict[str, set[int]]:
    """Return the lines of each split that a tool kept."""
    if task != "prepare":
        return {"train": set(json.loads((out / "kept.json").read_text()))}
    import polars as pl

    files = {
        split: [*out.glob(f"*{split}.parquet")] for split in SPLITS
    }  # datatrove writes the number of the task before the name
    return {split: set(pl.read_parquet(paths)["line"].to_list()) for split, paths in files.items()}


def findings(kept: dict[str, set[int]], planted: Any, number: int) -> str:
    """Report the planted copies that were kept together with their originals, and the rows without a copy that were lost."""
    every = set().union(*kept.values())
    parents = {line: planted.parents[line] for kind in ("exact", "near") for line in planted.kinds[kind]}
    clusters: dict[int, set[int]] = {}
    for line in range(1, number + 1):
        clusters.setdefault(parents.get(line, line), set()).add(line)
    holding = set(planted.kinds["holding"])
    held = {planted.parents[line] for line in holding}  # if the row that holds it is held out, it is a leak itself
    spared = sum(max(0, len(lines & every) - 1) for lines in clusters.values())
    lost = sum(not lines & every and root not in held | holding for root, lines in clusters.items())
    equal: dict[int, set[int]] = {}
    for line in planted.kinds["exact"]:
        equal.setdefault(planted.parents[line], set()).add(line)
    held_out = every - kept["train"]
    leaks = [
        line
        for line in holding & kept["train"]
        if ({planted.parents[line]} | equal.get(planted.parents[line], set())) & held_out
    ]
    return f"kept {len(every):,}; {spared:,} copies kept beside another; {lost:,} rows lost; {len(leaks):,} leaks"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--venvs", type=Path, help="the folder of the tools' environments")
    parser.add_argument("--tools", nargs="+", help="these alone, beside ratchet")
    parser.add_argument("--folder", type=Path, help="where everything is written; it is removed at the end")
    parser.add_argument("--work", nargs=3, metavar=("TOOL", "PATH", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        tool, path, out = options.work
        work(options.task, tool, Path(path), Path(out))
        return
    if options.venvs is None:
        parser.error("--venvs is missing")
    tools = [
        tool for tool in TASKS[options.task] if tool == "ratchet" or tool in (options.tools or TASKS[options.task])
    ]
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        compare(options, tools, folder)
    finally:
        shutil.rmtree(folder)


def compare(options: argparse.Namespace, tools: list[str], folder: Path) -> None:
    """Run the tools in turn, and print the rows per CPU-second of each and its ratio to ours."""
    import ingest  # beside this file

    path = folder / "rows.jsonl"
    planted = ingest.write(path, options.rows)
    times: dict[str, list[float]] = {tool: [] for tool in tools}
    for number in range(options.rounds):
        for tool in tools:
            out = folder / f"{number} {tool}"
            times[tool].append(measured(options.task, tool, path, out, options.venvs))
            print(f"round {number + 1}, {tool}: {options.rows / times[tool][-1]:,.0f} rows per CPU-second", flush=True)
            if not number and options.task != "read":
                print(f"  {findings(kept_lines(options.task, out), planted, options.rows)}", flush=True)
            shutil.rmtree(out)
    for tool in tools[1:]:
        ratios = [theirs / ours for theirs, ours in zip(times[tool], times["ratchet"], strict=True)]
        middle = sorted(ratios)[len(ratios) // 2]
        print(f"{tool} takes {middle:.2f} times the CPU time of ratchet ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
