"""`python -m flows.commands` is `ratchet`."""

from flows.commands import main

main()
