"""Ask the tuned model fresh tasks of every generated kind, grade its answers, and decide how many new tasks of each kind to add."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tasks.core.records import Example, Probe
from tasks.io.sources import gym
from tasks.io.sources.gym import Kind
from tasks.methods.curators import NEVER_FAILED, NO_SHARE, Attempts, TaskCurator

NO_MORE = "no task is left that is not in the data already"
Answer = Callable[[Sequence[Example]], Sequence[str]]
"""Returns the model's greedy answer to each task."""
Grade = Callable[[Example, str], float]
"""Returns the verifier's score of an answer: 1 is right."""


def fresh_tasks(kinds: Sequence[Kind], each: int, seed: str, known: set[str]) -> dict[str, list[Example]]:
    """Return `each` tasks of every kind, with prompts that are not in `known`; fewer if no more can be generated.

    Raises ValueError if no source generates tasks, and if there is no fresh task of any kind.
    """
    if not kinds:
        raise ValueError(
            "diagnose.curator asks fresh tasks, and no source of `ingest.sources` generates any: add one "
            "(`from: reasoning-gym`), or set curator: middo."
        )
    tasks: dict[str, list[Example]] = {}
    for kind in kinds:
        asked = {gym.prompt_key(task) for others in tasks.values() for task in others}
        tasks[kind.name] = gym.new_examples(kind, each, seed, known | asked)
    if not any(tasks.values()):
        raise ValueError(
            f"diagnose: of {', '.join(tasks)} {NO_MORE}. Widen their settings in `ingest.sources`, or lower its `size`."
        )
    return tasks


def probe(tasks: Mapping[str, Sequence[Example]], answer: Answer, grade: Grade) -> list[Probe]:
    """Return the tasks with the model's answers and the verifier's judgements."""
    pairs = [(kind, task) for kind, examples in tasks.items() for task in examples]
    answers = answer([task for _, task in pairs])
    return [
        Probe(task.id, kind, task.prompt[-1].content, text, task.response, grade(task, text) >= 1)
        for (kind, task), text in zip(pairs, answers, strict=True)
    ]


def allocation(
    tasks: Mapping[str, Sequence[Example]], probes: Sequence[Probe], examples: int, curator: TaskCurator, config: Any
) -> dict[str, dict[str, Any]]:
    """Return for each kind the numbers of tasks asked, tasks failed, different answers and tasks to add, and the reason if none are added.

    `examples` is the number of examples in the round.
    """
    reasons = {kind: _reason_left_out(examples) for kind, examples in tasks.items()}
    passed = {kind: [probe.passed for probe in probes if probe.kind == kind] for kind in tasks}
    attempts = {
        kind: Attempts(len(passed[kind]), passed[kind].count(False)) for kind, reason in reasons.items() if not reason
    }
    shares = curator.allocate(attempts, examples, config)
    return {
        kind: {
            "asked": len(passed[kind]),
            "failed": passed[kind].count(False),
            "answers": len({probe.answer for probe in probes if probe.kind == kind}),
            "add": shares.get(kind, 0),
            "why": reason or ("" if shares[kind] else NO_SHARE if attempts[kind].failed else NEVER_FAILED),
        }
        for kind, reason in reasons.items()
    }


def _reason_left_out(tasks: Sequence[Example]) -> str:
    """Return the reason why a kind cannot be measured; empty if it can."""
    if not tasks:
        return NO_MORE
    return gym.UNTRUSTED if gym.takes_anything(tasks) else ""


def summary(label: str, kinds: Mapping[str, Mapping[str, Any]], each: int) -> str:
    """Return the lines that the stage prints: the sums, the kinds with tasks to add, then anything unusual."""
    asked, failed, added = (sum(counts[name] for counts in kinds.values()) for name in ("asked", "failed", "add"))
    lines = [f"{label}: {failed} of {asked} fresh tasks failed; {added} new tasks to add"]
    by_failures = sorted(kinds.items(), key=lambda entry: (-entry[1]["add"], entry[0]))
    lines += [
        f"  {kind}: {counts['failed']} of {counts['asked']} failed, {counts['add']} to add"
        for kind, counts in by_failures
        if counts["add"]
    ]
    for why in dict.fromkeys(counts["why"] for counts in kinds.values() if counts["why"]):
        lines.append(f"  nothing of {', '.join(kind for kind, counts in kinds.items() if counts['why'] == why)}: {why}")
    few = [f"{kind} {counts['asked']}" for kind, counts in kinds.items() if 0 < counts["asked"] < each]
    lines += [f"  fewer than {each} fresh tasks could be generated: {', '.join(few)}"] if few else []
    repeated = [kind for kind, counts in kinds.items() if counts["answers"] == 1 < counts["asked"]]
    lines += [f"  the model gave one and the same answer to all tasks of {', '.join(repeated)}"] if repeated else []
    if failed == asked:
        lines.append("  every task failed, so failures say nothing of where new tasks help most: try easier settings")
    return "\n".join(lines)
