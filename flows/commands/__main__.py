"""Run `ratchet`, as `python -m flows.commands`."""

from flows.commands import main

main()
