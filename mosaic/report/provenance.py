"""Where results come from: the commit of the code and the versions of what it stands on."""

import contextlib
import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

_DISTRIBUTION = "mosaic-eo"


def commit() -> str | None:
    """Return ``"1a2b3c4d5e"`` or ``"1a2b3c4d5e, modified"``; None without git or outside its repository."""
    file = Path(__file__)
    # Without optional locks: looking at the state must not get in the way of a commit made meanwhile.
    options: dict[str, Any] = {"cwd": file.parent, "env": {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}}
    options |= {"capture_output": True, "text": True, "timeout": 20, "check": True}
    describe = ["git", "describe", "--always", "--abbrev=10", "--exclude=*", "--dirty=, modified"]
    try:
        # the repository around may be somebody else's
        subprocess.run(["git", "ls-files", "--error-unmatch", file.name], **options)
        return str(subprocess.run(describe, **options).stdout).strip()
    except (OSError, subprocess.SubprocessError):
        return None


def packages() -> dict[str, str]:
    """Return the versions of Python and of everything the project depends on, by name."""
    versions = {"python": platform.python_version()}
    with contextlib.suppress(metadata.PackageNotFoundError):
        requirements = [text for text in metadata.requires(_DISTRIBUTION) or [] if "extra ==" not in text]
        for requirement in [_DISTRIBUTION, *requirements]:
            name = re.split(r"[^\w.-]", requirement)[0]
            with contextlib.suppress(metadata.PackageNotFoundError):
                versions[name] = metadata.version(name)
    return versions
