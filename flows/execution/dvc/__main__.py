"""Run DVC's command line as `python -m dvc` does, but write `dvc.lock` faster, and run the stage's command on a host if one is set."""

import os
import sys

from dvc.cli import main

from flows.execution.dvc import lock_writer
from tasks.core import environment

if __name__ == "__main__":
    lock_writer.use()
    if host := os.environ.get(environment.ON):
        from flows.execution.dvc import remote_command

        remote_command.use(host)
    sys.exit(main(sys.argv[1:]))
