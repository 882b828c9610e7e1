"""Write the page of claims: what is measured, the figures with their intervals, and the verdicts."""

import itertools
import math
from collections.abc import Iterator, Sequence

from flows.experiments import claims, ledger

HEAD = """# Claims of papers, and what was found here

Each claim says what is measured, against which control, and with how many seeds. This was written down before the runs. Later changes
stand under *changed*, with the time in UTC and what was known by then. No paper makes the claims marked *ours*: they are about our own design, or are controls.

| verdict | meaning, where figures by seed or by round are given |
| --- | --- |
| reproduced | the whole interval lies where the claim says |
| not reproduced | the whole interval lies on the other side |
| not decidable at this size | the interval lies on both sides |
| open | not measured yet |

- **Interval**: Student's t, 95 %, over seeds or rounds: it says what another seed or round would give. If seeds were added after a look at the
  figures, the interval is one that holds at any number of seeds. It is wider than Student's, which assumes that the number was settled before.
- **Power**: the size of effect that as many seeds, with the same spread, would have shown.
- **Interval over test items or modules**, where one is given: what other items would give with the same seeds.
- **pass@1**: programs were judged in a sandbox of level 2.

Made from `docs/claims/` by `make reference`.

**Correction for many rows.** Of {rows} rows with figures {decided} are decided, each at 5 % by itself. *p* is that of the interval's test against the claim's bound. Beside it
stands p corrected for all {rows} rows:

- by Benjamini and Hochberg, which at 5 % leaves {benjamini_hochberg} of the decided rows (about one in twenty of these is false);
- by Holm, which leaves {holm} (with 95 % probability all of them are true).

A row that says *decided* names the corrections under which it stays decided.
*Trainings* names earlier rows with figures of the same trainings, or of the same arm and seeds trained again: such rows are not independent evidence. A row that
*follows* from others is no evidence at all. `python docs/ledger.py` takes figures from trainings; *typed* figures say why they are not taken.

**Rows of the lab.** Commands with `ratchet use lab`, `lab-telecom` or `lab-reasoning` train a LLaMA of 1.5M weights,
most of them for 8 to 212 optimizer steps. Its first base had been pretrained with a learning rate too high for its shape: after 1.2M tokens at 3e-3 its
validation loss on the domain is 2.74 nats per token. At 1e-3, the rate of profile `lab` since 2026-11-25 20:44, it is 2.42. Rows
measured on the second base say so under *training*. The others are about a small, poorly trained model, though their commands
now start from the second base. Proxy-tuning has bases of its own. No row says how a method performs on a good or a large model.

**FAIT's small model.** A LLaMA of 0.6M weights is pretrained on 4,400 generated functions, half of the time with mistakes as people make them. It then
trains on 1,000 other functions without mistakes, each paired with a function that has one. An earlier attempt used mutants of operators on a randomly initialised model. It
could show nothing, since no other token had any loss left. Each command makes the model of the arms again on each machine, and rounding changes it. So compare
differences within a row, not levels of different rows.
"""


def page() -> str:
    """Return every claim of a paper that is tested here, with its verdict."""
    entries = ledger.entries()
    parts = [HEAD.format(**ledger.kept_by(entries))]
    for method, rows in itertools.groupby(entries, lambda entry: entry.method):
        parts.append(f"## {method}\n")
        for entry in rows:
            ours = " (ours)" if entry.claim.origin == "ours" else ""
            title = f"{entry.number}. **{entry.claim.claim}**{ours} — {entry.claim.verdict}{_corrected(entry)}"
            parts.append(title + "\n\n" + "\n".join(_row(entry)) + "\n")
    return "\n".join(parts)


def _corrected(entry: ledger.Entry) -> str:
    """Return by which corrections a decided claim is decided still."""
    if entry.benjamini_hochberg is None or entry.holm is None or entry.claim.verdict == "not decidable at this size":
        return ""
    names = {"Benjamini–Hochberg": entry.benjamini_hochberg, "Holm": entry.holm}
    left = [name for name, p in names.items() if p <= ledger.LEVEL]
    return f" (decided by {' and '.join(left)} too)" if left else " (by itself; not with the number of rows counted)"


def _row(entry: ledger.Entry) -> Iterator[str]:
    """Yield the lines of a claim."""
    claim = entry.claim
    yield f"- metric: {claim.metric}"
    yield f"- control: {claim.control}"
    for name, value in (("seeds", claim.seeds), ("rounds", claim.rounds), ("training", claim.steps)):
        if value:
            yield f"- {name}: {value}"
    if not claim.seeds and not claim.rounds:
        yield "- seeds: none, since no seed changes what is counted"
    yield f"- found: {claim.found or 'not run yet'}"
    unit, shown = ("seed", _signed) if claim.per_seed else ("round", _times)
    if mean := claim.interval():
        bounds = f"[{shown(mean.low)}, {shown(mean.high)}]" if math.isfinite(mean.low) else "without bounds yet"
        over = f"over {unit}s {shown(mean.value)} {bounds}"
        if mean.n > 1 and claim.detectable() is None:
            over = "without any spread to judge by"
        if claim.looks:
            over += f" at any number of {unit}s (looked at after {', '.join(map(str, claim.looks))} too)"
        yield (
            f"- by {unit}: {', '.join(map(shown, claim.per_seed or claim.per_round))}; {over}, "
            f"where the claim has it {claim.side} {claim.bound:g}"
        )
    if entry.p is not None and entry.p < 1:
        yield f"- p: {entry.p:.2g}; of all rows {entry.benjamini_hochberg:.2g} (Benjamini–Hochberg), {entry.holm:.2g} (Holm)"
    if claim.per_seed:
        yield f"- data: {_data(entry)}"
    if entry.shares:
        yield f"- trainings: some are those of {_listed(entry.shares)}"
    if entry.follows_from:
        yield f"- follows: from {_listed(entry.follows_from)}, by addition and subtraction"
    if claim.planned is not None:
        yield f"- power before the run: a true difference of {claim.planned:.2g} from {claim.bound:g} is seen with {100 * claims.CHANCE:g} %"
    if size := claim.detectable():
        test = f"{'interval at any number' if claim.looks else 'paired t'}, {len(claim.per_seed or claim.per_round)} {unit}s"
        seen = f"a true difference of {size:.2g} from {claim.bound:g} would have been seen with {100 * claims.CHANCE:g} % power"
        yield f"- power: {seen if math.isfinite(size) else 'no difference can be seen with so few'} ({test})"
    yield from (f"- changed: {change}" for change in claim.changed)
    yield f"- command: `{claim.command}`"


def _data(entry: ledger.Entry) -> str:
    """Return the origin of figures by seed."""
    source = entry.of_trainings
    if source is None:
        return f"typed: {entry.claim.typed}"
    what = f"`docs/claims/data/{source.comparison}.json`, {source.metric} of {source.of} less that of {source.less}"
    return what if entry.claim.source else f"typed; those of seeds that were run again are the same in {what}"


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if names[1:] else names[0]


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")


def _times(value: float) -> str:
    return f"{value:.3f}"
