"""Hold the program that starts a far side: it receives the far side's modules, and runs them in its own process."""

import hashlib
import json
from pathlib import Path

from flows.execution import supervisor
from flows.execution.elsewhere import far_side, frames

PROGRAM = """\
import os, sys
if sys.version_info < (3, 11): sys.exit("Python " + sys.version.split()[0] + " is older than 3.11")
sys.path = [folder for folder in sys.path if folder]  # a json.py in the home is none of ours
data = b""
while len(data) < int(sys.argv[2]): data += os.read(0, int(sys.argv[2]) - len(data)) or sys.exit("the connection ended")
import json; from pathlib import Path
sent = json.loads(data)
base = Path(sys.argv[1]).expanduser()
base.mkdir(mode=0o700, parents=True, exist_ok=True)
code = base / "code" / sent["digest"]
for name, text in sent["files"].items():
    path = code / name
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.uname().nodename}.{os.getpid()}")
    partial.write_text(text)
    partial.replace(path)
sys.path.insert(0, str(code))
from flows.execution.elsewhere import far_side
sys.exit(far_side.main(sys.argv[1]))
"""
"""The program as part of a command line. Its arguments: the folder on the host, and the size in bytes of the modules, which it reads
first."""


def modules() -> bytes:
    """Return the modules of the far side, as PROGRAM reads them. Their packages are empty there."""
    sent = (supervisor, far_side, frames)
    texts = {f"{module.__name__.replace('.', '/')}.py": Path(str(module.__file__)).read_text() for module in sent}
    packages = {folder.as_posix() for name in texts for folder in Path(name).parents if folder.name}
    texts |= {f"{package}/__init__.py": "" for package in packages}
    digest = hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()[:16]
    return json.dumps({"digest": digest, "files": texts}).encode()
