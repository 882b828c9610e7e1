"""Scratch workspaces for benchmarks: they link the outputs of this workspace, and have settings of their own."""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from tasks.core import statistics

ROOT = Path.cwd()
SHARED = ("tasks", "flows", "data/ingested", "data/rounds", "data/raw")
DECISIONS = tuple(f"data/review_{kind}.jsonl" for kind in ("decisions", "items", "records"))


def seeds(description: str | None) -> list[int]:
    """Parse seeds from the command line, 0 1 2 by default; `-h` prints the description."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seeds", type=int, nargs="*", default=[0, 1, 2])
    return list(parser.parse_args().seeds)


def settings() -> dict[str, Any]:
    """Return the settings of this workspace."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return config


def link(workspace: Path, *names: str) -> None:
    """Link code, data, decisions and the named models of this workspace into a scratch workspace."""
    for name in (*SHARED, *DECISIONS, *names):
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).symlink_to(ROOT / name)


def run(workspace: Path, params: dict[str, Any], *command: str) -> None:
    """Run one stage in a scratch workspace with these settings; exit with its output if it fails."""
    (workspace / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "tasks.run", *command], cwd=workspace, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def items(path: Path, measure: str) -> pl.DataFrame:
    """Return the items of one measure in a model's results, in a fixed order."""
    return pl.read_parquet(path).filter(pl.col("measure") == measure).sort("item")


def loss(items: pl.DataFrame) -> float:
    """Return the loss in nats per token."""
    return round(float(items["value"].sum() / items["tokens"].sum()), 6)


def difference(before: pl.DataFrame, after: pl.DataFrame) -> str:
    """Format the paired difference of loss in nats per token, with its interval."""
    gap = statistics.ratio_difference(before["value"], after["value"], before["tokens"], before["group"].to_list())
    return f"{gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"
