"""`ratchet open`."""

import signal
from contextlib import suppress
from typing import Annotated, Literal

import typer

from flows.commands import _browser


def open(  # a command has the name of its function
    page: Annotated[
        Literal["report", "mlflow", "prefect"],
        typer.Argument(metavar="PAGE", help="report: its page, rebuilt. mlflow: the runs. prefect: the flow runs."),
    ],
    port: Annotated[
        int | None,
        typer.Option(
            help="The port of a server that this starts; default: 5000 (MLflow) or Prefect's own setting, 4200.",
            min=1,
            max=65535,
        ),
    ] = None,
) -> None:
    """Open the report, MLflow's pages or Prefect's in a browser.

    Uses a server that already runs; otherwise starts one, which ends with this command, at Ctrl-C. Without a browser, prints the address.

    Example: ratchet open report, or ratchet open mlflow --port 5001
    """
    from tasks.io.runs import run_links

    if page == "report":
        _open_report()
    elif page == "mlflow":
        _open_mlflow(port or run_links.PORT)
    else:
        _open_prefect(port)


def _open_report() -> None:
    from flows.commands import report
    from flows.experiments import report_page

    report.show(*report_page.of_workspace(), open_page=True)


def _open_mlflow(port: int) -> None:
    from flows.execution import cancellation, mlflow_pages, supervisor
    from tasks.io.runs import run_links, run_store
    from tasks.io.system import progress

    if run_links.is_server():
        _browser.show(run_links.server())
        return
    run_store.check()
    address = mlflow_pages.address(port)
    if mlflow_pages.is_shown(port):
        progress.say(f"MLflow runs already: {address}")
        _browser.show(address)
        return
    mlflow_pages.check_port(port, "ratchet open mlflow")
    cancellation.interrupt_when_terminated()
    with supervisor.running(mlflow_pages.command(port), env=mlflow_pages.environment()) as server:
        mlflow_pages.wait_for(server, port)
        progress.say(f"Runs: {address}. Ctrl-C ends MLflow.")
        _browser.show(address)
        with suppress(KeyboardInterrupt):
            server.wait()
    progress.say("MLflow has stopped.")


def _open_prefect(port: int | None) -> None:
    from flows import serve
    from flows.execution import cancellation, prefect_server
    from tasks.io.system import progress

    cancellation.interrupt_when_terminated()
    url = prefect_server.configured()
    if url and prefect_server.answers(url):
        progress.say(f"Prefect runs already: {prefect_server.pages(url)}")
        _browser.show(prefect_server.pages(url))
        return
    with serve.server(port, "ratchet open prefect --port {port}") as url:
        address = prefect_server.pages(url)
        progress.say(f"Flow runs: {address}. Ctrl-C ends Prefect. Schedules begin under `ratchet up` alone.")
        _browser.show(address)
        with suppress(KeyboardInterrupt):
            signal.pause()
