"""`ratchet rounds`."""

from typing import Annotated

import typer


def rounds(
    number: Annotated[
        int, typer.Argument(min=1, help="1 trains once; each further one diagnoses, refines, trains again.")
    ],
) -> None:
    """Set how many rounds the loop has.

    Writes `rounds`, `turns` and `models` of params.yaml.

    Example: ratchet rounds 3
    """
    from flows.execution import workspace_lease
    from flows.project import rounds
    from tasks import configuration
    from tasks.io import config_file

    config_file.check_present(configuration.PARAMS)
    with workspace_lease.writing():
        rounds.write_rounds(number, configuration.PARAMS)
    names = ", ".join(configuration.names_of_rounds(number))
    typer.echo(f"{configuration.PARAMS} has the rounds {names} now. `ratchet plan` shows what that changes.")
