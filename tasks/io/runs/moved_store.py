"""Update the paths of artifacts and models in a local MLflow database whose workspace was moved to another folder."""

import sqlite3
from contextlib import closing
from pathlib import Path

PLACES = {
    "experiments": ["artifact_location"],
    "runs": ["artifact_uri"],
    "logged_models": ["artifact_location"],
    "model_versions": ["source", "storage_location"],
}
"""Columns with absolute paths, by table."""


def relocate(database: Path, old: Path, new: Path) -> None:
    """Replace the prefix `old` of all paths by `new`. A database that is not MLflow's stays unchanged."""
    if old == new:
        return
    with closing(sqlite3.connect(database)) as store, store:
        tables = {name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table, columns in PLACES.items():
            if table not in tables or not PLACES.keys() <= tables:
                continue
            for column in columns:
                for scheme in ("", "file://"):
                    before, after = f"{scheme}{old}", f"{scheme}{new}"
                    store.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) IN (?, ?)",
                        (after, len(before) + 1, len(before) + 1, before, f"{before}/"),
                    )
