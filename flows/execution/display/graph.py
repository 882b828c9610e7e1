"""Draw the graph of a run as Mermaid text (https://mermaid.js.org), which Prefect's pages render."""

from collections.abc import Iterator, Mapping, Sequence

COLOURS = {
    "run": "fill:#dbeafe,stroke:#1d4ed8",
    "may change": "fill:#eff6ff,stroke:#60a5fa",
    "ran": "fill:#dcfce7,stroke:#15803d",
    "restored": "fill:#cffafe,stroke:#0e7490",
    "unchanged": "fill:#f3f4f6,stroke:#9ca3af",
    "failed": "fill:#fee2e2,stroke:#b91c1c",
    "not begun": "fill:#fef9c3,stroke:#a16207",
}
"""Fill and line colour of a stage, by its planned state or its outcome."""
HINT = "Pages of Prefect's first version show this as text; *Switch to V2 UI*, below on the left, draws it."
TEXT = "color:#111827"
"""The colour of the text: readable on every fill, in light and dark pages."""


def markdown(upstream: Mapping[str, Sequence[str]], states: Mapping[str, str]) -> str:
    """Return a Markdown block with the graph. `upstream` maps each stage to the stages that it reads from, in plan order."""
    return "\n".join(["```mermaid", "flowchart TD", *_lines(direct(upstream), states), "```", "", HINT])


def direct(upstream: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the direct upstream stages of each stage, without those that another of them reads from: their arrows would hide the order."""
    reached: dict[str, set[str]] = {}
    kept = {}
    for stage, before in upstream.items():
        beyond = {earlier for other in before for earlier in reached[other]}
        kept[stage] = [other for other in before if other not in beyond]
        reached[stage] = beyond | set(before)
    return kept


def _lines(upstream: Mapping[str, Sequence[str]], states: Mapping[str, str]) -> Iterator[str]:
    numbers = {stage: f"s{number}" for number, stage in enumerate(upstream)}
    for stage, number in numbers.items():
        label = stage.replace('"', "#quot;")
        yield f'  {number}["{label}<br/>{states[stage]}"]:::{_class(states[stage])}'
    for stage, before in upstream.items():
        yield from (f"  {numbers[other]} --> {numbers[stage]}" for other in before)
    for state in dict.fromkeys(states.values()):
        yield f"  classDef {_class(state)} {COLOURS[state]},{TEXT}"


def _class(state: str) -> str:
    return state.replace(" ", "_")
