"""Open an address in a browser."""

import typer


def show(address: str) -> None:
    """Open an address in the browser of this machine, or print it if there is none, as over SSH or in a container."""
    import webbrowser

    if not webbrowser.open(address):
        typer.echo(f"No browser could be opened here. The address for one: {address}")
