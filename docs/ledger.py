"""Take the figures by seed of claims from trainings: `python docs/ledger.py COMPARISON [OF LESS METRIC]`.

`ratchet compare`, benchmarks/faults.py and benchmarks/by_task.py write a row for each training to
.ratchet/compare/COMPARISON/figures.json. This copies the rows to docs/claims/data/; commit them. Rows of other seeds and
compositions stay there if the part of `settings` before the first dash is equal, so trainings may run on several machines. Each claim with

    "source": {"comparison": "prompts", "of": "dept", "less": "prompt", "metric": "loss"}

and this comparison's name gets its `seeds`, its `per_seed` and the resulting verdict; people write `found`. With two
compositions and a metric (`loss`, `general`, `validation`, `pass@1`, or `matched`: general loss where both have the same domain
loss) the figures are only printed.
"""

import argparse
import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from flows.experiments import claims, results_table, trial_store  # noqa: E402  # the path comes first, where this runs as a script


def main(name: str, sides: list[str]) -> None:
    """Print the difference that `sides` name, or give all claims of a comparison their figures."""
    kept = trial_store.FOLDER / name / results_table.FIGURES
    if not kept.is_file():
        raise ValueError(f"{kept} is not there: `ratchet compare {name}` writes it when it has ended.")
    if sides:
        of, less, metric = sides
        print(
            *results_table.differences_by_seed(json.loads(kept.read_text(encoding="utf-8")), of, less, metric), sep=", "
        )
        return
    files = [file for file in sorted(claims.FOLDER.glob("*.json")) if name in _comparisons(file)]
    if not files:
        raise ValueError(
            f"No claim has a `source` of comparison {name!r}: `python docs/ledger.py -h` shows how to write one."
        )
    claims.DATA.mkdir(exist_ok=True)
    collect(kept, claims.DATA / f"{name}.json")
    for file in files:
        fill(file, name)
    print("Write `found` where it no longer fits, then `make docs`.")


def collect(new: Path, kept: Path) -> None:
    """Copy the rows of trainings, and keep rows of other seeds and compositions whose `settings` have the same basis."""
    rows = json.loads(new.read_text(encoding="utf-8"))
    measured = {(row.get("settings"), row["composition"], row["seed"]) for row in rows}
    bases = {_basis(row["settings"]) for row in rows if "settings" in row}
    earlier = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else []
    rows += [
        row
        for row in earlier
        if "settings" in row
        and _basis(row["settings"]) in bases
        and (row["settings"], row["composition"], row["seed"]) not in measured
    ]
    results_table.write_figures(kept, rows)


def _basis(settings: str) -> str:
    """Return the part of a row's `settings` digest before the first dash, on which all compositions of a comparison depend."""
    return settings.partition("-")[0]


def _comparisons(file: Path) -> set[str]:
    return {claim.source.comparison for claim in claims.read(file.stem) if claim.source}


def fill(file: Path, name: str) -> None:
    """Set the figures of a file's claims from a comparison; a claim whose sides have not run yet keeps its figures."""
    rows: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    for row, claim in zip(rows, claims.read(file.stem), strict=True):
        if claim.source is None or claim.source.comparison != name:
            continue
        try:
            figures = claims.figures_from_source(claim)
        except ValueError as error:
            print(f"{file.stem}: {claim.claim}\n  left as it is: {str(error).partition('. ')[0]}")
            continue
        filled = dataclasses.replace(claim, per_seed=figures)
        row |= {"seeds": len(figures), "per_seed": figures, "verdict": filled.implied()}
        found = filled.interval()
        assert found
        interval = f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
        print(f"{file.stem}: {claim.claim}\n  {figures}: {interval}, {row['verdict']}")
    file.write_text(as_text(rows), encoding="utf-8")


def as_text(rows: list[dict[str, Any]]) -> str:
    """Return claims as JSON in the format of their files: lists of numbers on one line."""
    text = json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
    return re.sub(r"\[\s+([-\d.e,\s]+?)\s+\]", lambda numbers: f"[{' '.join(numbers[1].split())}]", text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison")
    parser.add_argument("sides", nargs="*", metavar="OF LESS METRIC")
    options = parser.parse_args()
    if len(options.sides) not in (0, 3):
        parser.error("OF, LESS and METRIC go together")
    try:
        main(options.comparison, options.sides)
    except ValueError as error:
        sys.exit(str(error))
