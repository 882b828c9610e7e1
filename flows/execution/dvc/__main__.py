"""`python -m flows.execution.dvc …` is `python -m dvc …`, which writes `dvc.lock` sooner."""

import sys

from dvc.cli import main

from flows.execution.dvc import lock_writer

if __name__ == "__main__":
    lock_writer.use()
    sys.exit(main(sys.argv[1:]))
