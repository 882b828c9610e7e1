"""Write the page of coverage: the methods that surveys and a guide name, and which of them exist here."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks import methods
from tasks.core.training import FAMILIES

FOLDER = Path(__file__).parent / "coverage"
FIGURES = FOLDER / "data/steps.json"
"""What `benchmarks/coverage.py` found."""
KINDS = {
    "method": "methods",
    "library": "classes of peft",
    "place": "stages, records, settings and commands",
    "absent": "*not here*",
}
"""Kinds of answers with their titles; a row has exactly one."""
MODELS = {"llama": "LLaMA", "qwen2": "Qwen2", "gpt2": "GPT-2"}

HEAD = """# Coverage of surveys

The methods that three surveys and a guide name, row by row, and whether Ratchet has them. Each row has exactly one answer:

- a method of [the registry](../reference/methods.md);
- a class of peft, of the version in `constraints.txt`: no setting chooses it, but its adapters can be [measured and merged](../how-to/merge-models.md#adapters-made-elsewhere);
- a stage, record, setting or command;
- *not here*, with the reason. Such rows are counted too.

Rows marked † are ours and counted separately: the part of the survey that was read does not name them. Made from `docs/coverage/` by `make reference`; a test resolves every name.
"""


RUNS = """<!-- figures: taken from docs/coverage/data/steps.json by benchmarks/coverage.py -->

*Runs* names those of three tiny models (LLaMA, Qwen2, GPT-2) on which a training of some steps ran. *In packs*, for classes of peft, names those on which a step ran
on [packed sequences](../concepts/compositions.md), which all training in Ratchet uses. [The figures](#figures) follow, with the message of each refusal.
"""


ABOUT = """Every model is tiny. From random weights it first learns the text of a licence for 80 steps, then it trains a few steps on bodies of functions.

| column | meaning |
| --- | --- |
| *trains* | numbers that train at some step |
| *merges* | whether plain weights compute the same, by a comparison (— if nothing is added) |
| *saved* | bytes of tensors that a pass keeps for the backward pass |
| *peak* | the most bytes of tensors during the training, without the weights |
| *file* | size of the saved weights |
| *learned*, *forgot* | changes of the loss on the functions and on the licence, in nats per token |

All methods have the same learning rate, which was not searched: the last two columns show that weights change, and cannot rank methods. Preferences train on pairs whose worse answer is a
reversed text."""


@dataclass(frozen=True)
class Row:
    """A row of a survey's table."""

    survey: str
    category: str
    representative: str
    kind: str
    """A key of `KINDS`."""
    answer: str
    """The method's name, the class, the place, or the reason for its absence."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    placed: bool = False
    """True if the part of the survey that was read does not name the representative."""

    @property
    def run(self) -> str:
        """The name under which its steps are measured; empty if none are measured."""
        if self.kind not in ("method", "library") or self._never_trains:
            return ""
        said = ", ".join(f"{name}: {value}" for name, value in self.settings.items())
        return f"{self.answer} ({said})" if said else self.answer

    @property
    def _never_trains(self) -> bool:
        """Return whether it is a method that takes part in no training, such as a curator."""
        families = methods.families_of(self.answer) if self.kind == "method" else []
        return bool(families) and not {*FAMILIES, "compressors"} & {*families}


@dataclass(frozen=True)
class Survey:
    """One survey with its rows."""

    name: str
    title: str
    paper: str
    read: str
    """The part of the survey that was read."""
    rows: tuple[Row, ...]


def surveys() -> list[Survey]:
    """Return all surveys. Raises ValueError for a row without exactly one kind of answer, and for a row that occurs twice."""
    return [read(path) for path in sorted(FOLDER.glob("*.json"))]


def read(path: Path) -> Survey:
    """Return the survey in a file. Raises ValueError as `surveys` does."""
    contents = json.loads(path.read_text(encoding="utf-8"))
    rows = [
        _row(contents["title"], row, f"{path.name}: row {number}") for number, row in enumerate(contents["rows"], 1)
    ]
    names = [(row.category, row.representative) for row in rows]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{path.name}: {' · '.join(twice[0])} stands there twice. Leave one of the two out.")
    return Survey(path.stem, contents["title"], contents["paper"], contents["read"], tuple(rows))


def _row(survey: str, row: Mapping[str, Any], where: str) -> Row:
    kinds = [kind for kind in KINDS if row.get(kind)]
    if len(kinds) != 1:
        raise ValueError(
            f"{where} ({row['representative']}) has {', '.join(kinds) or 'none'} of {', '.join(KINDS)}, and must have exactly one."
        )
    known = {"category", "representative", "settings", "note", "placed", *KINDS}
    if unknown := row.keys() - known:
        raise ValueError(
            f"{where} ({row['representative']}): there is no key {', '.join(sorted(unknown))}. There are: {', '.join(sorted(known))}."
        )
    others = {name: row[name] for name in ("settings", "note", "placed") if name in row}
    return Row(survey, row["category"], row["representative"], kinds[0], row[kinds[0]], **others)


def figures(path: Path = FIGURES) -> dict[str, Any]:
    """Return the results of the benchmark, by the runs' names; empty if it has not run yet."""
    return dict(json.loads(path.read_text(encoding="utf-8"))["runs"]) if path.is_file() else {}


def page() -> str:
    """Return the page."""
    found, every = figures(), surveys()
    parts = [HEAD, *([RUNS] if found else []), *(_survey(survey, found) for survey in every)]
    if found:
        parts.append(_figures(found))
    return "\n".join(parts)


def _survey(survey: Survey, found: Mapping[str, Any]) -> str:
    lines = [f"## {survey.title}", "", f"<{survey.paper}> What was read: {survey.read[0].lower()}{survey.read[1:]}", ""]
    lines += [
        *_counts(survey),
        "",
        "| category | representative | here | runs | in packs |",
        "| --- | --- | --- | --- | --- |",
    ]
    before = ""
    for row in survey.rows:
        category = row.category if row.category != before else ""
        before = row.category
        runs = found.get(row.run, {})
        cells = (
            category,
            row.representative + (" †" if row.placed else ""),
            "<br>".join(filter(None, [_here(row), row.note or _reason(row)])),
            _runs(runs, "error"),
            _packs(runs),
        )
        lines.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _counts(survey: Survey) -> Iterator[str]:
    named = [row for row in survey.rows if not row.placed]
    yield _count("Of the rows that were read", named) + " " + _count("With ours (†)", survey.rows)


def _count(words: str, rows: Any) -> str:
    of_kind = {kind: sum(row.kind == kind for row in rows) for kind in KINDS}
    covered = len(rows) - of_kind["absent"]
    told = ", ".join(f"{title} {of_kind[kind]}" for kind, title in KINDS.items())
    return f"{words}, {covered} of {len(rows)} are covered ({covered / len(rows):.0%}): {told}."


def _here(row: Row) -> str:
    said = ", ".join(f"{name}: {value}" for name, value in row.settings.items())
    match row.kind:
        case "absent":
            return "*not here*"
        case "place":
            word, _, name = row.answer.partition(" ")
            return f"{word} `{name}`"
    return f"`{row.answer}`" + (f", `{said}`" if said else "")


def _reason(row: Row) -> str:
    return row.answer if row.kind == "absent" else ""


def _runs(runs: Mapping[str, Any], error: str) -> str:
    """Return the models on which it ran; empty where nothing was measured."""
    if not runs:
        return ""
    return ", ".join(MODELS[model] for model in MODELS if not runs[model].get(error)) or "on none"


def _packs(runs: Mapping[str, Any]) -> str:
    """Return the models on which a class of peft ran in packs; empty for methods, which all run in packs."""
    return _runs(runs, "packs") if any("packs" in run for run in runs.values()) else ""


def _figures(found: Mapping[str, Any]) -> str:
    about = json.loads(FIGURES.read_text(encoding="utf-8"))
    lines = [
        "## Figures",
        "",
        ABOUT,
        "",
        f"With {about['versions']}.",
        "",
        "| | model | trains | merges | saved, KB | peak, KB | file, KB | learned | forgot |",
        "| --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    refused = []
    for name, runs in found.items():
        for model, run in runs.items():
            if run.get("error"):
                refused.append((name, model, run["error"]))
                continue
            if run.get("packs"):
                refused.append((name, f"{MODELS[model]}, in packs", run["packs"]))
            lines.append(f"| `{name}` | {MODELS[model]} | {' | '.join(_figure(run, key) for key in FIGURE)} |")
    lines += ["", "### Refusals", "", "| | model | in its own words |", "| --- | --- | --- |"]
    lines += [f"| `{name}` | {MODELS.get(model, model)} | {_cell(why)} |" for name, model, why in refused]
    return "\n".join(lines) + "\n"


FIGURE = {
    "trains": "{:,}",
    "merges": "{}",
    "saved": "{:.1f}",
    "peak": "{:.1f}",
    "file": "{:.1f}",
    "learned": "{:+.3f}",
    "forgot": "{:+.3f}",
}
"""The figures of a run with their formats; bytes are in thousands."""


def _figure(run: Mapping[str, Any], key: str) -> str:
    value = run[key]
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return FIGURE[key].format(value / 1000 if key in ("saved", "peak", "file") else value)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
