"""The figures of `benchmarks/faults.py`, and the differences of its arms with their intervals."""

from typing import Any


def table(results: dict[str, list[dict[str, Any]]]) -> None:
    """Print for each arm its metrics, and its differences to plain fine-tuning and to marks at random places."""
    from tasks.io import sandbox

    print(f"\npass@1: sandbox level {sandbox.probe().number}")
    print(f"{'':<12} {'marked':>8} {'gap':>8} {'pass@1':>8}   differences: over functions [95 %], over seeds (95 %)")
    for name, rows in results.items():
        levels = [sum(map(metric, rows)) / len(rows) for metric in (marked, gap, passed)]
        print(f"{name:<12} {levels[0]:8.4f} {levels[1]:8.4f} {levels[2]:8.4f}", flush=True)
        for other in ("sft", "random", f"{name} at random"):
            if other in results and name not in ("base", "sft", other):
                print(f"  to {other}: {change(rows, results[other])}", flush=True)


def change(rows: list[dict[str, Any]], first: list[dict[str, Any]]) -> str:
    """Format the differences of the three metrics, each with its interval over functions and over seeds."""
    from tasks.core import statistics

    items, solved = rows[0]["items"], rows[0]["passed"]
    tokens, groups = [item["tokens"] for item in items], [item["group"] for item in items]
    estimates = {
        marked: statistics.ratio_difference(mean(first, "items", "nats"), mean(rows, "items", "nats"), tokens, groups),
        gap: statistics.mean(minus(rows, first, "items", "gap"), groups),
        passed: statistics.mean(minus(rows, first, "passed", "passed"), [item["group"] for item in solved]),
    }
    parts = []
    for metric, estimate in estimates.items():
        seeds = statistics.over_seeds([metric(row) - metric(base) for row, base in zip(rows, first, strict=True)])
        interval = f"[{estimate.low:+.4f}, {estimate.high:+.4f}] ({seeds.low:+.4f}, {seeds.high:+.4f})"
        parts.append(f"{metric.__name__} {estimate.value:+.4f} {interval}")
    return "  ".join(parts)


def mean(rows: list[dict[str, Any]], kind: str, name: str) -> list[float]:
    """Return each item's value, averaged over seeds."""
    return [
        sum(values) / len(rows) for values in zip(*([item[name] for item in row[kind]] for row in rows), strict=True)
    ]


def minus(rows: list[dict[str, Any]], first: list[dict[str, Any]], kind: str, name: str) -> list[float]:
    """Return the difference of each item's values."""
    return [a - b for a, b in zip(mean(rows, kind, name), mean(first, kind, name), strict=True)]


def marked(row: dict[str, Any]) -> float:
    """Return the loss on differing tokens, in nats per token."""
    return sum(item["nats"] for item in row["items"]) / sum(item["tokens"] for item in row["items"])


def gap(row: dict[str, Any]) -> float:
    """Return the mean of p(right) - p(wrong)."""
    return sum(item["gap"] for item in row["items"]) / len(row["items"])


def passed(row: dict[str, Any]) -> float:
    """Return the share of functions whose answer passes."""
    return sum(item["passed"] for item in row["passed"]) / len(row["passed"])
