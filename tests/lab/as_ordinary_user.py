"""Run a command as an ordinary user with subordinate ids, without adding one to this machine.

Usage (as root): as_ordinary_user.py HOME PROJECT COMMAND…  A private mount namespace gets its own
/etc/passwd, /etc/group, /etc/subuid and /etc/subgid, in which the user exists; PROJECT is seen at
HOME/project. The command runs there with that user's id, its groups and no capability.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

NAME, UID, FIRST = "imlab-user", 61_234, 1_700_000_000

LINES = {
    "passwd": f"{NAME}:x:{UID}:{UID}::{{home}}:/bin/sh\n",
    "group": f"{NAME}:x:{UID}:\n",
    "subuid": f"{NAME}:{FIRST}:65536\n",
    "subgid": f"{NAME}:{FIRST}:65536\n",
}


def main() -> None:
    """Make the user's view of the machine, become the user, run."""
    home, project, *command = sys.argv[1:]
    if "--inside" not in command:
        os.execvp(
            "unshare",
            ["unshare", "--mount", "--propagation", "private", sys.executable, __file__,
             home, project, "--inside", *command],
        )  # fmt: skip
    command.remove("--inside")
    folder = Path(home)
    for name, line in LINES.items():
        there = Path("/etc", name)
        before = there.read_text() if there.exists() else ""
        draft = folder / name
        draft.write_text(before + line.format(home=home))
        draft.chmod(0o644)
        there.touch()
        subprocess.run(["mount", "--bind", str(draft), str(there)], check=True)
    (folder / "project").mkdir()
    subprocess.run(["mount", "--bind", project, str(folder / "project")], check=True)
    for path in (folder, *folder.glob("*")):
        if path.name != "project":
            os.chown(path, UID, UID)
    os.chdir(folder)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("IMLAB_", "XDG_"))}
    environment |= {"HOME": home, "USER": NAME, "PYTHONDONTWRITEBYTECODE": "1"}
    os.execvpe(
        "setpriv",
        ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--init-groups", "--inh-caps=-all",
         *command],
        environment,
    )  # fmt: skip


if __name__ == "__main__":
    main()
