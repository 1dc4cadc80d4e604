"""Where results come from: the commit of the code and the versions of what it stands on."""

import contextlib
import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

_DISTRIBUTION = "mosaic-eo"


def commit() -> str | None:
    """Return the commit of this code, ``"1a2b3c4d5e"`` or ``"1a2b3c4d5e, modified"``.

    None when git is missing or this file is in no repository, e.g. when the package was installed.
    """

    def git(*arguments: str) -> str:
        # Without optional locks: looking at the state must not get in the way of a commit made meanwhile.
        environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=True, env=environment
        ).stdout.strip()

    try:
        git(
            "ls-files", "--error-unmatch", Path(__file__).name
        )  # the repository around may be somebody else's
        return git("describe", "--always", "--abbrev=10", "--exclude=*", "--dirty=, modified")
    except (OSError, subprocess.SubprocessError):
        return None


def packages() -> dict[str, str]:
    """Return the versions of Python and of everything the project depends on, by name."""
    versions = {"python": platform.python_version()}
    with contextlib.suppress(metadata.PackageNotFoundError):
        for requirement in [_DISTRIBUTION, *(metadata.requires(_DISTRIBUTION) or [])]:
            name = re.split(r"[^\w.-]", requirement)[0]
            if "extra ==" not in requirement:
                with contextlib.suppress(metadata.PackageNotFoundError):
                    versions[name] = metadata.version(name)
    return versions
