"""`ratchet plan`."""

from typing import Annotated

import typer


def plan(
    stages: Annotated[list[str] | None, typer.Argument(help="Only these stages and what they need.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list, for other programs.")] = False,
) -> None:
    """Say what a run would do to each stage, and why.

    run, restored (from DVC's cache), unchanged, or may change (as a stage before it runs).

    Example: ratchet plan --json
    """
    import dataclasses
    import json

    from flows import graph
    from tasks import settings

    settings.load()
    steps = graph.plan(stages or [])
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(step) for step in steps], indent=2, ensure_ascii=False))
        return
    width = max((len(step.stage) for step in steps), default=0)
    for step in steps:
        typer.echo(f"{step.stage:<{width}}  {step.state:<10}  {'; '.join(step.why)}".rstrip())
