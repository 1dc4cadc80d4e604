"""How the trials of a run are launched: by processes of this machine, or as jobs of a cluster."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mosaic.utils.errors import RunError, SettingsError, suggest

if TYPE_CHECKING:
    import submitit

#: The environment variable that hands these settings to notebooks, as JSON.
LAUNCH = "MOSAIC_LAUNCH"
CLUSTERS = {
    "pool": "a pool of processes on this machine",
    "local": "submitit, each trial a process on this machine",
    "slurm": "submitit, arrays of SLURM jobs",
    "debug": "submitit, one after the other in this process",
}
#: Options that submitit has for every cluster; those of one carry its name before them.
_SHARED = ("timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node", "stderr_to_stdout")
_MINUTES = {"slurm": 240, "local": 7 * 24 * 60}  # a job may take; submitit's own are 5 and 2
_MOST_TIMEOUTS = 20  # times that a job which reached its limit is queued again


@dataclass(frozen=True)
class Launch:
    """How trials are launched.

    Attributes:
        cluster: a key of :data:`CLUSTERS`.
        options: for submitit, e.g. ``{"partition": "gpu", "gpus_per_node": 1, "timeout_min": 240}``.
        keep_going: whether a run goes on without the trials that failed.
    """

    cluster: str = "pool"
    options: Mapping[str, Any] = field(default_factory=dict)
    keep_going: bool = False

    def __post_init__(self) -> None:
        if self.cluster not in CLUSTERS:
            raise SettingsError(f"no cluster {self.cluster!r}{suggest(self.cluster, CLUSTERS)}")

    @classmethod
    def current(cls) -> "Launch":
        """Return what was handed on to this process."""
        return cls(**json.loads(os.environ.get(LAUNCH, "{}")))

    @contextlib.contextmanager
    def handed_on(self) -> Iterator[None]:
        """Hand these settings on to the processes that are started meanwhile."""
        before = os.environ.get(LAUNCH)
        os.environ[LAUNCH] = json.dumps(asdict(self))
        try:
            yield
        finally:
            if before is None:
                del os.environ[LAUNCH]
            else:
                os.environ[LAUNCH] = before

    def check(self) -> None:
        """Refuse what could not be launched, before anything starts.

        Raises:
            SettingsError: for an unknown or impossible option.
            RunError: when submitit or SLURM is not installed.
        """
        if self.cluster != "pool":
            with tempfile.TemporaryDirectory() as folder:
                self.executor("mosaic", Path(folder))
        elif self.options:
            raise SettingsError("options of a cluster without --cluster: add --cluster slurm or local")

    def executor(self, name: str, folder: Path) -> "submitit.Executor":
        """Return what submits jobs.

        Args:
            name: of the jobs, as the queue shows it.
            folder: for what submitit writes; the machines that run the jobs must see it.

        Raises:
            SettingsError: for an unknown or impossible option.
            RunError: when submitit or SLURM is not installed.
        """
        try:
            import submitit
        except ImportError as error:
            raise RunError(
                f"cluster {self.cluster!r} needs submitit: pip install 'mosaic-eo[cluster]'"
            ) from error
        if self.cluster == "debug":
            return submitit.DebugExecutor(folder)
        if several := {"nodes", "tasks_per_node"} & set(self.options):
            raise SettingsError(f"a trial is one task on one machine: leave out {', '.join(sorted(several))}")
        options = {"max_num_timeout": _MOST_TIMEOUTS, "timeout_min": _MINUTES[self.cluster], **self.options}
        timeouts = {f"{self.cluster}_max_num_timeout": options.pop("max_num_timeout")}
        own = {key if key in _SHARED else f"{self.cluster}_{key}": value for key, value in options.items()}
        try:
            executor = submitit.AutoExecutor(folder, cluster=self.cluster, **timeouts)
            executor.update_parameters(name=name, **own)
        except RuntimeError as error:  # no srun
            raise RunError(
                f"{error} Start the run where `sbatch` works, or with --cluster local or pool"
            ) from error
        except (AssertionError, NameError, TypeError, ValueError) as error:
            raise SettingsError(f"--cluster-options for {self.cluster}: {error}") from error
        return executor


def read_options(text: str) -> dict[str, Any]:
    """Read options of a cluster from the command line.

    Args:
        text: ``name=value,name=value``, or the path of a YAML file of them.

    Raises:
        SettingsError: for anything else.
    """
    try:
        if text.endswith((".yaml", ".yml")):
            content = yaml.safe_load(Path(text).read_text(encoding="utf-8"))
        else:
            pairs = (part.split("=", 1) for part in text.split(","))
            content = {name: yaml.safe_load(value) for name, value in pairs}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SettingsError(
            f"--cluster-options {text!r}: write name=value,name=value or name a YAML file ({error})"
        ) from error
    if not isinstance(content, dict):
        raise SettingsError(f"{text} must be a list of 'name: value' lines")
    return content
