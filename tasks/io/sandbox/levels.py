"""Which isolation this machine can give, and what would give a better one. The ladder:

    4  a machine of its own (gVisor, a micro-VM)      not built
    3  namespaces, filter and a control group         not built
    2  bubblewrap, or the same walls made directly    programs that a model wrote
    1  a subprocess with limits                       code that the user has installed anyway
"""

import os
import shutil
import sys
from functools import cache
from pathlib import Path

from tasks.io.sandbox.process import Sandbox
from tasks.io.sandbox.records import Level, Limits

SYSCTL = Path("/proc/sys")
SWITCHES = {  # what distributions turn off: the value that does it, and the one that undoes it
    "kernel/unprivileged_userns_clone": ("0", "1"),
    "kernel/apparmor_restrict_unprivileged_userns": ("1", "0"),
    "user/max_user_namespaces": ("0", "10000"),
}


@cache
def probe() -> Level:
    """The best isolation that starts here. Found by starting it, as settings that look right may still be refused."""
    if sys.platform != "linux":
        number, name = (1, "limits") if os.name == "posix" else (0, "none")
        return Level(number, name, "Linux namespaces; not run: no sandbox", "run Ratchet on Linux, or in a Linux container or WSL")
    missing = []
    for name in candidates():
        try:
            Sandbox(name, Limits()).close()
        except RuntimeError as error:
            missing.append(f"{name} ({error})")
        else:
            return Level(2, name)
    return Level(1, "limits", " and ".join(missing), remedy())
