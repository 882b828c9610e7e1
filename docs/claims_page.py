"""Write the page of claims: a table for each method with results and verdicts, and below it how each claim was measured."""

import html
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import get_args

from flows.experiments import claims, ledger

HEAD = """# Claims of papers, and what was found here

Each claim says what is measured, against which control, and with how many seeds. This was written down before the runs. A table for each method has
the results; a click on a claim shows how it was measured. Made from `docs/claims/` by `make reference`.

{counts}
| verdict | meaning, where figures by seed or by round are given |
| --- | --- |
| reproduced | the whole interval lies where the claim says |
| not reproduced | the whole interval lies on the other side |
| not decidable at this size | the interval lies on both sides |
| open | not measured yet |

- **Results** are means over seeds or rounds with their 95 % interval, in the unit of the claim's metric. Losses are differences to the control.
- **Ours** marks claims that no paper makes: they are about our own design, or are controls.
- **also Holm**, **also B–H**, **alone**: whether a verdict holds after [correction for the number of claims](#correction-for-many-claims).
- **No claim says how a method performs on a good or a large model**: [the models](#the-models-of-these-claims) are small.

"""

READING = """## How to read the details

- **Interval**: Student's t, 95 %, over seeds or rounds: it says what another seed or round would give. If seeds were added after a look at the
  figures, the interval is one that holds at any number of seeds. It is wider than Student's, which assumes that the number was settled before.
- **Power**: the size of effect that as many seeds, with the same spread, would have shown.
- **Interval over test items or modules**, where one is given: what other items would give with the same seeds.
- **pass@1**: programs were judged in a sandbox of level 2.
- **Changed**: what was changed after the claim had been written down, with the time in UTC and what was known by then.
  A long change of several claims of a method is printed once, above its details.
- **Trainings** names earlier claims with figures of the same trainings, or of the same arm and seeds trained again: they are not independent evidence.
- **Follows** names the claims from which the figures follow. Such a claim is no evidence at all.
- **Data**: `python docs/ledger.py` takes figures from trainings; *typed* figures say why they are not taken.

## Correction for many claims

Of {rows} claims with figures {decided} are decided, each at 5 % by itself. *p* is that of the interval's test against the claim's bound. Beside it stands p
corrected for all {rows} claims:

| correction | decided claims that it leaves | meaning |
| --- | --- | --- |
| Benjamini and Hochberg, at 5 % (B–H) | {benjamini_hochberg} | about one in twenty of these is false |
| Holm | {holm} | with 95 % probability all of these are true |

## The models of these claims

**The lab.** Commands with `ratchet use lab`, `lab-telecom` or `lab-reasoning` train a LLaMA of 1.5M weights, most of them for 8 to 212 optimizer steps.
There were two bases:

| base | learning rate of its pretraining | validation loss on the domain after 1.2M tokens, nats per token |
| --- | --- | --- |
| first | 3e-3, too high for its shape | 2.74 |
| second, of profile `lab` since 2026-11-25 20:44 | 1e-3 | 2.42 |

Claims measured on the second base say so under *training*. The others are about a small, poorly trained model, though their commands now start from the
second base. Proxy-tuning has bases of its own.

**FAIT's small model.** A LLaMA of 0.6M weights is pretrained on 4,400 generated functions, half of the time with mistakes as people make them. It then
trains on 1,000 other functions without mistakes, each paired with a function that has one. An earlier attempt used mutants of operators on a randomly
initialised model. It could show nothing, since no other token had any loss left. Each command makes the model of the arms again on each machine, and
rounding changes it. So compare differences within a claim, not levels of different claims.
"""
LONGEST = 140
"""Largest number of characters of a result that is a sentence; a longer one is found in the details. A longer change is printed once for a method."""


def page() -> str:
    """Return every claim of a paper that is tested here, with its verdict."""
    entries = ledger.entries()
    parts = [HEAD.format(counts=_counts(entries))]
    for method, grouped in itertools.groupby(entries, lambda entry: entry.method):
        rows = list(grouped)
        parts.append(f"## {method}\n\n| claim | result | verdict |\n| --- | --- | --- |")
        parts += [_overview(entry) for entry in rows]
        shared = _shared_changes(rows)
        parts += ["", *_changes(method, shared), *(_details(entry, shared) for entry in rows)]
    return "\n".join([*parts, READING.format(**ledger.kept_by(entries))])


def _shared_changes(entries: Sequence[ledger.Entry]) -> list[str]:
    """Return the long changes that several claims of a method name, sorted by time, with which their texts begin."""
    counts = Counter(change for entry in entries for change in entry.claim.changed)
    return sorted(change for change, number in counts.items() if number > 1 and len(change) > LONGEST)


def _changes(method: str, shared: Sequence[str]) -> Iterator[str]:
    """Yield a list of the changes that several claims of a method name, as a block that opens on a click."""
    if shared:
        title = f"<summary>Changes that concern several claims of {method}</summary>"
        lines = "\n".join(f"{number}. {change}" for number, change in enumerate(shared, 1))
        yield f'<details markdown="1">\n{title}\n<a id="{method}-changes"></a>\n\n{lines}\n\n</details>\n'


def _counts(entries: Sequence[ledger.Entry]) -> str:
    """Return the table of the numbers of claims by verdict."""
    verdicts = get_args(claims.Verdict)
    lines = [f"| claims | number | {' | '.join(verdicts)} |", f"| --- |{' ---: |' * (len(verdicts) + 1)}"]
    for title, origin in (("of papers", "paper"), ("ours", "ours")):
        found = Counter(entry.claim.verdict for entry in entries if entry.claim.origin == origin)
        lines.append(f"| {title} | {found.total()} | {' | '.join(str(found[verdict]) for verdict in verdicts)} |")
    return "\n".join(lines) + "\n"


def _overview(entry: ledger.Entry) -> str:
    """Return the row of a claim in the table of its method."""
    claim = entry.claim
    ours = " (ours)" if claim.origin == "ours" else ""
    title = f"{entry.number}. [{claim.claim}](#{_anchor(entry)}){ours}"
    cells = (title, _result(claim), f"{claim.verdict}{_corrected(entry)}")
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _anchor(entry: ledger.Entry) -> str:
    return f"{entry.method}-{entry.number}"


def _result(claim: claims.Claim) -> str:
    """Return the interval and the claimed side of the bound; without figures by seed or round, the first sentence of what was found, if it is short."""
    if mean := claim.interval():
        bounds = (
            f"[{_shown(claim, mean.low)}, {_shown(claim, mean.high)}]" if math.isfinite(mean.low) else "(no bounds yet)"
        )
        return f"{_shown(claim, mean.value)} {bounds}, claimed {claim.side} {claim.bound:g}"
    first = re.split(r"(?<=\D)[.;] ", claim.found + " ")[0].strip()
    return first if len(first) <= LONGEST else "in the details"


def _corrected(entry: ledger.Entry) -> str:
    """Return under which correction a decided claim stays decided. What Holm's leaves, Benjamini and Hochberg's leaves too."""
    if entry.benjamini_hochberg is None or entry.holm is None or entry.claim.verdict == "not decidable at this size":
        return ""
    if entry.holm <= ledger.LEVEL:
        return ", also Holm"
    return ", also B–H" if entry.benjamini_hochberg <= ledger.LEVEL else ", alone"


def _details(entry: ledger.Entry, shared: Sequence[str]) -> str:
    """Return how a claim was measured, as a block that opens on a click. Changes in `shared` are named by their numbers."""
    title = f"<summary>{entry.number}. {html.escape(entry.claim.claim)}</summary>"
    lines = "\n".join(_lines(entry, shared))
    return f'<details markdown="1">\n{title}\n<a id="{_anchor(entry)}"></a>\n\n{lines}\n\n</details>\n'


def _lines(entry: ledger.Entry, shared: Sequence[str]) -> Iterator[str]:
    """Yield the lines of a claim. Changes in `shared` are named by their numbers."""
    claim = entry.claim
    yield f"- **metric**: {claim.metric}"
    yield f"- **control**: {claim.control}"
    for name, value in (("seeds", claim.seeds), ("rounds", claim.rounds), ("training", claim.steps)):
        if value:
            yield f"- **{name}**: {value}"
    if not claim.seeds and not claim.rounds:
        yield "- **seeds**: none, since no seed changes what is counted"
    yield f"- **found**: {claim.found or 'not run yet'}"
    unit = "seed" if claim.per_seed else "round"
    if mean := claim.interval():
        bounds = (
            f"[{_shown(claim, mean.low)}, {_shown(claim, mean.high)}]"
            if math.isfinite(mean.low)
            else "without bounds yet"
        )
        over = f"over {unit}s {_shown(claim, mean.value)} {bounds}"
        if mean.n > 1 and claim.detectable() is None:
            over = "without any spread to judge by"
        if claim.looks:
            over += f" at any number of {unit}s (looked at after {', '.join(map(str, claim.looks))} too)"
        yield (
            f"- **by {unit}**: {', '.join(_shown(claim, figure) for figure in claim.per_seed or claim.per_round)}; {over}, "
            f"where the claim has it {claim.side} {claim.bound:g}"
        )
    if entry.p is not None and entry.p < 1:
        yield f"- **p**: {entry.p:.2g}; of all claims {entry.benjamini_hochberg:.2g} (Benjamini–Hochberg), {entry.holm:.2g} (Holm)"
    if claim.per_seed:
        yield f"- **data**: {_data(entry)}"
    if entry.shares:
        yield f"- **trainings**: some are those of {_listed(entry.shares)}"
    if entry.follows_from:
        yield f"- **follows**: from {_listed(entry.follows_from)}, by addition and subtraction"
    if claim.planned is not None:
        yield f"- **power before the run**: a true difference of {claim.planned:.2g} from {claim.bound:g} is seen with {100 * claims.CHANCE:g} %"
    if size := claim.detectable():
        test = f"{'interval at any number' if claim.looks else 'paired t'}, {len(claim.per_seed or claim.per_round)} {unit}s"
        seen = f"a true difference of {size:.2g} from {claim.bound:g} would have been seen with {100 * claims.CHANCE:g} % power"
        yield f"- **power**: {seen if math.isfinite(size) else 'no difference can be seen with so few'} ({test})"
    if numbers := [str(shared.index(change) + 1) for change in claim.changed if change in shared]:
        word = "change" if len(numbers) == 1 else "changes"
        yield f"- **changed**: {word} {_listed(numbers)} [of several claims](#{entry.method}-changes)"
    yield from (f"- **changed**: {change}" for change in claim.changed if change not in shared)
    yield f"- **command**: `{claim.command}`"


def _data(entry: ledger.Entry) -> str:
    """Return the origin of figures by seed."""
    source = entry.of_trainings
    if source is None:
        return f"typed: {entry.claim.typed}"
    what = f"`docs/claims/data/{source.comparison}.json`, {source.metric} of {source.of} less that of {source.less}"
    return what if entry.claim.source else f"typed; those of seeds that were run again are the same in {what}"


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if names[1:] else names[0]


def _shown(claim: claims.Claim, value: float) -> str:
    """Return a figure by seed with its sign, or one by round."""
    return f"{value:+.4f}".replace("-", "−") if claim.per_seed else f"{value:.3f}"
