"""The five commands of SLURM that submitit needs, on one machine: a job is a process that starts at once.

Called as ``fake_slurm.py <command> <arguments>`` with $FAKE_SLURM naming the folder of states.
"""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

FOLDER = Path(os.environ["FAKE_SLURM"])


def sbatch(script):
    job = str(1 + len(list(FOLDER.glob("*.sh"))))
    text = Path(script).read_text()
    if "--partition=closed" in text:
        sys.exit("sbatch: error: invalid partition specified: closed")
    (FOLDER / f"{job}.sh").write_text(text)
    quiet = subprocess.DEVNULL
    array = re.search(r"#SBATCH --array=0-(\d+)", text)
    for name in [f"{job}_{i}" for i in range(int(array[1]) + 1)] if array else [job]:
        (FOLDER / f"{name}.state").write_text("PENDING")
        command = [sys.executable, __file__, "node", name]
        subprocess.Popen(command, start_new_session=True, stdout=quiet, stderr=quiet)
    print(f"Submitted batch job {job}")


def node(name):
    """Run a job until it is not queued again."""
    job, _, task = name.partition("_")
    environment = {"SLURM_JOB_ID": job, "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    if task:
        environment |= {"SLURM_ARRAY_JOB_ID": job, "SLURM_ARRAY_TASK_ID": task}
    state, again = FOLDER / f"{name}.state", FOLDER / f"{name}.again"
    (FOLDER / f"{name}.group").write_text(str(os.getpid()))
    while True:
        state.write_text("RUNNING")
        done = subprocess.run(["bash", FOLDER / f"{job}.sh"], env={**os.environ, **environment}, check=False)
        if not again.exists():
            state.write_text("FAILED" if done.returncode else "COMPLETED")
            return
        again.unlink()


def srun(*arguments):
    paths, rest = {}, list(arguments)
    values = {
        "%A": "SLURM_ARRAY_JOB_ID",
        "%a": "SLURM_ARRAY_TASK_ID",
        "%j": "SLURM_JOB_ID",
        "%t": "SLURM_PROCID",
    }
    while rest[0].startswith("--"):
        option = rest.pop(0)
        if option in ("--output", "--error"):
            paths[option] = re.sub("%[Aajt]", lambda sign: os.environ[values[sign[0]]], rest.pop(0))
    with open(paths["--output"], "a") as output, open(paths["--error"], "a") as error:
        raise SystemExit(subprocess.run(rest, stdout=output, stderr=error, check=False).returncode)


def sacct(*arguments):
    print("JobID|State|NodeList")
    for path in FOLDER.glob("*.state"):
        print(f"{path.stem}|{path.read_text()}|here")


def scontrol(command, name):
    (FOLDER / f"{name}.{'again' if command == 'requeue' else command}").touch()


def scancel(*jobs):
    (FOLDER / "cancelled.json").write_text(json.dumps(jobs))
    for path in FOLDER.glob("*.group"):
        if path.stem.split("_")[0] in jobs:
            os.killpg(int(path.read_text()), signal.SIGKILL)
            path.with_suffix(".state").write_text("CANCELLED")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
