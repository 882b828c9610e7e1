"""`ratchet report`."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands import _browser, _completion, _terminal


def report(
    first: Annotated[
        str | None,
        typer.Argument(
            help="A model of params.yaml, COMMIT:MODEL, a version's number, `champion` or `candidate`. Without any: this workspace.",
            autocompletion=_completion.comparable_models,
        ),
    ] = None,
    second: Annotated[
        str | None, typer.Argument(help="Another one.", autocompletion=_completion.comparable_models)
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Rebuild the report's page, or write one that compares any two models.

    The page is one file that loads nothing else. Unlike data/report/index.html, it also shows tokens per second, what changed since the
    champion, and the commit.

    Example: ratchet report --open, or ratchet report r0 r1, or ratchet report HEAD~3:r0 r0
    """
    from flows.experiments import report_page

    if first and not second:
        raise ValueError(f"ratchet report compares two models: name another one beside {first}.")
    path, verdict = report_page.of_two(first, second) if first and second else report_page.of_workspace()
    show(path, verdict, open_page=open_page)


def show(path: Path, verdict: str, *, open_page: bool) -> None:
    """Print the verdict and the path of the page, and open it in a browser if `open_page`."""
    _terminal.show(f"{verdict}\nReport: {path}")
    if open_page:
        _browser.show(path.resolve().as_uri())
