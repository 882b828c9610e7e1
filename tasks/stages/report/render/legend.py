"""Explain how the figures were computed, for the summary, the page and the model card."""

from collections.abc import Iterator, Sequence

from tasks.core.answers.choice import ACC
from tasks.core.answers.judge import AGREEMENT
from tasks.core.answers.unit_tests import LINES
from tasks.core.classification import MACRO_F1
from tasks.core.records import EDITS, PREFERENCE, SCORED
from tasks.core.statistics import FEW, Bootstrap
from tasks.stages.report.data.comparison import CHECKS, SCORE, Comparison, Row


def legend(comparisons: Sequence[Comparison], bootstrap: Bootstrap) -> str:
    """Return the explanation of the measures in the comparisons."""
    rows = [row for comparison in comparisons for row in comparison.rows]
    return " ".join([_intervals(bootstrap), *_optional_measures(rows)])


def _intervals(bootstrap: Bootstrap) -> str:
    return (
        f"Brackets hold {100 * bootstrap.confidence:g} % intervals: of losses and differences by a bootstrap over groups of items "
        f"({bootstrap.resamples:,} resamples; a group is a module or a file; Student's t for fewer than {FEW} groups), of shares of "
        "right answers (pass@1, accuracies) exact, for independent items. Differences are paired item by item; those of such shares have the "
        "gate's interval, which counts the groups that changed. "
        "Loss: lower is better. pass@1, the share of tasks whose first answer passes its tests: higher is better."
    )


def _optional_measures(rows: Sequence[Row]) -> Iterator[str]:
    if any("sampled" in row.measure for row in rows):
        yield (
            "Sampled pass@k: the chance that one of k drawn answers passes, without bias from all that were drawn; "
            "its interval is by the bootstrap."
        )
    measures = {row.measure for row in rows}
    if measures.intersection(CHECKS) - {PREFERENCE, *EDITS}:
        yield (
            "Accuracy: the share of held-out questions whose first answer its check takes for right, with an exact interval; an answer that was "
            "cut off (`truncated`) is graded as far as it goes."
        )
    if ACC in measures:
        yield (
            "choice acc: the share of items whose right option is the likeliest response; acc_norm: the likeliest per character, both as "
            "lm-evaluation-harness defines them."
        )
    if AGREEMENT in measures:
        yield (
            "Judge agreement: the share of pairs with a known verdict, put among the others, in which the judge prefers the right answer; a tie "
            "or no verdict counts as not preferred."
        )
    if LINES in measures:
        yield (
            "unit_tests: suites of tests that the model writes for a function. score: the share of small mistakes in the function that a suite "
            "notices, 0 if it is not right about the function as it is; own score: the same of the data's own suites, which shows how many can be "
            "noticed. right: the share of suites that assert something, leave the function alone and pass; parse: of those that are Python. lines "
            "and branches: what a suite reaches of the function, whether it passes or not."
        )
    if PREFERENCE in measures:
        yield (
            "Preference accuracy: the share of held-out pairs whose chosen answer the model finds likelier, by the mean log-probability of a "
            "token, than the rejected one; a tie counts as not preferred."
        )
    if measures.intersection(EDITS):
        yield (
            "Edit success: the share of facts that the model answers right in the trained wording; rephrase: in other words; locality: the "
            "share of questions about other subjects that it answers as it did before this training."
        )
    if any(measure.endswith(SCORED) for measure in measures):
        yield "Scores are means over items of values between 0 and 1, in per cent, with intervals by the bootstrap."
    if MACRO_F1 in measures:
        yield "Macro-F1: the mean of F1 over the labels, each alike however rare, with an interval by the bootstrap."
    if any(row.unit == SCORE for row in rows):
        yield (
            "Standard benchmarks: scores of lm-evaluation-harness as it defines them, with intervals from its standard errors; "
            "their differences are not paired."
        )
