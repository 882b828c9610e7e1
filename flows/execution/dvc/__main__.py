"""`python -m flows.execution.dvc …` is `python -m dvc …`, which writes `dvc.lock` sooner, and may run the command on a host."""

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
