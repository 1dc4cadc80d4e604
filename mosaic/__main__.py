"""The command line: ``python -m mosaic <command>``. Every heavy import waits until a command needs it."""

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mosaic import __version__
from mosaic.utils.errors import MosaicError


def _simulate(args: argparse.Namespace) -> None:
    from mosaic.datasets.registry import simulate_archive
    from mosaic.experiments.prepare import simulated_root

    root = args.folder or simulated_root(args.layout, args.patches, args.seed)
    print(simulate_archive(args.layout, root, args.patches, args.seed))


def _fetch(args: argparse.Namespace) -> None:
    from mosaic.datasets.download import fetch
    from mosaic.experiments.study import data_folder

    print(fetch(args.name, args.folder or data_folder() / "archives" / args.name, yes=args.yes))


def _verify(args: argparse.Namespace) -> int:
    from mosaic.datasets.verify import format_table, verify
    from mosaic.store.reader import PackedStore
    from mosaic.store.record_format import MANIFEST

    if (args.folder / MANIFEST).exists():
        PackedStore(args.folder).verify()
        print(f"{args.folder}: packed data are as they were packed")
        return 0
    problems = verify(args.folder, args.dataset, args.bands, most_nodata=args.most_nodata)
    print(format_table(problems))
    return int((~problems["note"]).any())


def _pack(args: argparse.Namespace) -> None:
    from mosaic.datasets.registry import open_archive
    from mosaic.store.writer import pack

    left_out: list[Any] | None = [] if args.on_bad_patch == "skip" else None
    opened = args.bands, args.include_snow_cloud, left_out, args.most_nodata
    archive = open_archive(args.dataset, args.folder, *opened)
    kept = {"on_bad_patch": args.on_bad_patch, "most_pixels": args.most_pixels, "left_out": left_out or ()}
    store = pack(archive, args.to, **kept)
    print(f"{len(store)} pairs packed in {store.folder}")


def _train(args: argparse.Namespace) -> None:
    from mosaic.experiments.grid import train_one

    print(train_one(args.packed, args.to, args.method, args.fraction, dict(args.parameter)))


def _predict(args: argparse.Namespace) -> None:
    import pandas as pd

    from mosaic.datasets.patch_files import read_patch
    from mosaic.experiments.trained import load

    encoder = load(args.run, args.method, args.seed, args.budget)
    found = encoder.predict(**read_patch(args.files, encoder.bands, encoder.encoder.image_size))
    table = pd.DataFrame({"probability": found, "threshold": encoder.thresholds})
    table["present"] = table["probability"] >= table["threshold"]
    table = table.sort_values("probability", ascending=False)
    print(table.to_json(orient="index", indent=1) if args.json else table.round(2).to_string())


def _overrides(args: argparse.Namespace) -> dict[str, Any]:
    return dict(args.parameter) | ({"dataset": args.dataset} if args.dataset else {})


def _plan(args: argparse.Namespace) -> None:
    from mosaic.experiments.plan import describe
    from mosaic.experiments.prepare import check_fractions
    from mosaic.report.sequence import load_profile
    from mosaic.settings import StudySettings, validated

    values = load_profile(args.profile)[1] | _overrides(args)
    settings = validated(StudySettings, "plan", values | ({"archive": args.archive} if args.archive else {}))
    patches = check_fractions(settings)
    print(describe(settings, patches))


def _run(args: argparse.Namespace) -> None:
    from mosaic.experiments.parallel import Launch
    from mosaic.report.sequence import prepare_sequence, run_sweep

    Launch(args.cluster, dict(args.cluster_option), args.keep_going).hand_on()
    overrides = _overrides(args)
    if args.profile != "smoke" and not args.sweep:  # in a process of its own, which gives its memory back
        options = [f"--profile={args.profile}", *([f"--archive={args.archive}"] if args.archive else [])]
        options += [f"-p{name}={json.dumps(value)}" for name, value in overrides.items()]
        command = [sys.executable, "-m", "mosaic", "plan", *options]
        subprocess.run(command, stderr=subprocess.PIPE, check=False)
    if args.fresh:
        os.environ["MOSAIC_FRESH"] = str(time.time())  # what is older is made again
    asked = args.profile, args.archive, args.out, overrides
    run_sweep(*asked) if args.sweep else prepare_sequence(*asked)()


def _compare(args: argparse.Namespace) -> None:
    from mosaic.report.sequence import run_comparison

    run_comparison(args.runs)


def _report(args: argparse.Namespace) -> None:
    from mosaic.experiments.study import reports_folder
    from mosaic.report.html import render_all

    folder = Path(args.run) if Path(args.run).is_dir() else reports_folder(args.run)
    print(render_all(folder))


def _parameter(text: str) -> tuple[str, Any]:
    """Parse ``name=value``: JSON, a list or truth value that lacks JSON's quotes and case, otherwise text."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form name=value")
    with contextlib.suppress(json.JSONDecodeError):
        return name, json.loads(value)
    if value.startswith("[") and value.endswith("]"):  # quotes within brackets seldom survive shell and make
        entries = re.split(r",(?![^\[]*\])", value[1:-1])  # not at the commas of an inner list
        return name, [_parameter(f"{name}={entry.strip()}")[1] for entry in entries]
    if value.startswith("["):
        raise argparse.ArgumentTypeError(f"{text!r} holds no list: write {name}=[first,second]")
    return name, {"True": True, "False": False}.get(value, value)


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    main_parser = argparse.ArgumentParser(
        prog="python -m mosaic",
        description="MoSAiC: multi-modal multi-label contrastive learning on Sentinel-1 and Sentinel-2.",
    )
    main_parser.add_argument("--version", action="version", version=__version__)
    commands = main_parser.add_subparsers(dest="command", required=True, metavar="command")

    def add(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(function=function)
        return command

    parameter = "-p", "--parameter"
    repeated: dict[str, Any] = {"action": "append", "default": [], "type": _parameter}
    repeated |= {"metavar": "name=value", "help": "override one parameter"}
    layouts = "bigearthnet, copernicus_bench or sen12ms (default %(default)s)"

    simulate = add("simulate", _simulate, "write simulated scenes in an archive's official layout")
    simulate.add_argument("--layout", default="bigearthnet", help=layouts)
    simulate.add_argument("--patches", type=int, default=2000, help="number of pairs (default %(default)s)")
    simulate.add_argument("--seed", type=int, default=0, help="the same seed gives the same files")
    simulate.add_argument("--folder", type=Path, help="where to write (default data/archives/simulated-...)")

    fetch = add("fetch", _fetch, "download a real archive through TorchGeo, after stating its size")
    fetch.add_argument("name", choices=["bigearthnet", "copernicus-bench"])
    fetch.add_argument("--folder", type=Path, help="where to put it (default data/archives/<name>)")
    fetch.add_argument("--yes", action="store_true", help="do not ask before downloading")

    verify = add("verify", _verify, "check an archive, patch by patch, or packed data: print what is wrong")

    pack = add("pack", _pack, "turn an archive into memory-mapped records")
    for command in (verify, pack):
        command.add_argument("folder", type=Path, help="the archive")
        command.add_argument("--dataset", default="bigearthnet", help=layouts)
        command.add_argument("--bands", default="all", help="'all', '10m' or names separated by commas")
        nodata = "largest share of a sensor's values without data in a usable patch (default %(default)s)"
        command.add_argument("--most-nodata", type=float, default=0.5, help=nodata)
    pack.add_argument("--to", type=Path, required=True, help="where the packed data goes")
    pack.add_argument("--most-pixels", type=int, help="average larger patches to at most this side, e.g. 128")
    pack.add_argument("--include-snow-cloud", action="store_true", help="keep patches with snow or cloud")
    pack.add_argument("--on-bad-patch", choices=["stop", "skip"], default="stop")

    train = add("train", _train, "train one encoder; torchrun or srun may start it in several processes")
    train.add_argument("packed", type=Path, help="packed data")
    train.add_argument("--to", type=Path, required=True, help="where the encoder goes")
    train.add_argument("--method", default="mosaic", help="row of the table of methods (default %(default)s)")
    train.add_argument("--fraction", type=float, default=100.0, help="%% of the training labels to use")
    train.add_argument(*parameter, **repeated)

    predict = add("predict", _predict, "print which classes a patch carries, by an encoder of a finished run")
    predict.add_argument("run", help="name of the run")
    predict.add_argument("method", help="row of the table of methods")
    files = "a GeoTIFF a sensor with all bands (dB; DN without offset), or BigEarthNet's folder of a patch"
    predict.add_argument("files", nargs="+", type=Path, help=files)
    predict.add_argument("--seed", type=int, default=0, help="of training (default %(default)s)")
    predict.add_argument("--budget", type=float, help="%% of the training labels (default: the most)")
    predict.add_argument("--json", action="store_true", help="print JSON")

    plan = add("plan", _plan, "print what a run takes, measured for half a minute, before anything starts")
    run = add("run", _run, "execute the notebooks in order and write HTML reports")
    profiles = "smoke, demo (default), study, field, bench5, bench5-light, full-light, full, or a file"
    for command in (plan, run):
        command.add_argument("--profile", default="demo", help=profiles)
        command.add_argument("--dataset", help="layout: bigearthnet, copernicus_bench or sen12ms")
        command.add_argument("--archive", help="'simulated', or a folder in the official layout")
        command.add_argument(*parameter, **repeated)
    run.add_argument("--out", help="name of the run: reports/<out>/ (default: the profile's name)")
    cluster = "what runs the trials: processes of this machine (the default), or jobs of submitit"
    run.add_argument("--cluster", default="pool", choices=["pool", "slurm"], help=cluster)
    option = repeated | {"help": "one of submitit's, such as slurm_partition=gpu or gpus_per_node=1"}
    run.add_argument("--cluster-option", **option)
    run.add_argument("--fresh", action="store_true", help="reuse nothing that was trained or computed before")
    run.add_argument("--keep-going", action="store_true", help="report without the trials that failed")

    sweep = "run each of several values of one -p, such as name=[a,b,c], and compare the runs"
    run.add_argument("--sweep", action="store_true", help=sweep)

    compare = add("compare", _compare, "lay finished runs beside each other on one page")
    compare.add_argument("runs", nargs="+", metavar="run", help="names of runs; the first is the reference")

    report = add("report", _report, "render the reports of a run again from its executed notebooks")
    report.add_argument("run", help="name of the run, or its folder")
    return main_parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a user's mistake ends with its message and exit status 2."""
    args = parser().parse_args(arguments)
    if root := os.environ.get("MOSAIC_ROOT"):
        os.environ["MOSAIC_ROOT"] = os.path.abspath(root)  # kernels start elsewhere
    try:
        return int(args.function(args) or 0)
    except MosaicError as error:
        print(f"mosaic {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"mosaic {args.command}: interrupted; finished work will be reused", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe went away, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


if __name__ == "__main__":
    sys.exit(main())
