"""Scratch workspaces for measurements: they link what a workspace has made, with settings of their own, and change nothing there."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import yaml

ROOT = Path.cwd()


def settings() -> dict[str, Any]:
    """The settings of this workspace."""
    whole: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return whole


def link(workspace: Path, *names: str) -> None:
    """Let the scratch workspace see code, data and these models of this workspace."""
    for name in ("tasks", "flows", "data/ingested", "data/rounds", "data/raw", *names):
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).symlink_to(ROOT / name)


def run(workspace: Path, params: dict[str, Any], *command: str) -> None:
    """Run one stage there with these settings; stop with what it said where it failed."""
    (workspace / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "tasks.run", *command], cwd=workspace, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def items(path: Path, measure: str) -> pl.DataFrame:
    """The items of one measure in a model's results, in a fixed order."""
    return pl.read_parquet(path).filter(pl.col("measure") == measure).sort("item")
