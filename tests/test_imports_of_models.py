"""Programs that are no child of the fork server import models as it does."""

import subprocess
import sys


def test_a_command_imports_models_without_what_they_can_do_without():
    code = (
        "import sys\nfrom flows import commands\n"
        "try: commands.main(['merge', 'a', '--to', '.'])\n"
        "except SystemExit as end: assert end.code\n"
        "print('tasks.forkserver.libraries' in sys.modules, 'peft' in sys.modules, 'datasets' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "False"], done.stderr
