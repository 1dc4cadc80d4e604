"""The benchmarks run, and what is told of them is what was measured."""

import argparse
import os
import re
from pathlib import Path

import pytest
import torch

from mosaic.experiments import plan
from mosaic.methods import get_method
from mosaic.report.sequence import load_profile
from mosaic.settings import StudySettings, TrialSettings, validated
from mosaic.training import captured, module

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    """Let the scripts be imported, as they import each other."""
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.fixture
def measured():
    from common import RESULTS, load_all

    return load_all(RESULTS)


def test_the_benchmark_of_the_step_runs(packed, tmp_path, monkeypatch):
    import bench_step
    from common import load_all

    options = f"--steps 1 --rounds 1 --scenes 8 --pixels 16 --packed {packed} --results {tmp_path}"
    monkeypatch.setattr("sys.argv", ["bench_step.py", "--encoder", "light", *options.split()])
    bench_step.main()
    (result,) = load_all(tmp_path).values()
    rates = {row["name"]: row["value"] for row in result["rows"]}
    assert min(rate for rate in rates.values() if rate is not None) > 0
    overhead, relative, *of_a_gpu = (one["value"] for one in result["ratios"])
    assert len(of_a_gpu) == 7 and (torch.cuda.is_available() or of_a_gpu == [None] * 7)
    assert overhead == pytest.approx(1 - rates[bench_step.WHOLE] / rates[bench_step.ENCODERS])
    assert relative == pytest.approx(rates[bench_step.WHOLE] / rates[bench_step.IAI])


def test_a_step_is_measured_beside_its_graph_and_with_the_share_that_a_gpu_works(
    store, tmp_path, monkeypatch
):
    """The path that captures, with a graph that is the work itself, and a GPU that works 40 and 60 %."""
    import bench_step

    small = {"image_size": 16, "batch_scenes": 4, "steps": 6, "monitor_every": 0}
    trial = TrialSettings(method="simclr_s2", **small)
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf '40\\n60\\n'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert bench_step.busy_share(store, trial) == 0.5
    monkeypatch.setattr(module, "captures", lambda *_: True)
    monkeypatch.setattr(captured, "aside", lambda work: work())
    monkeypatch.setattr(captured, "record", lambda work: work)
    assert min(bench_step.captured_step(store, trial)) > 0


@pytest.mark.parametrize("form", ["AT_ONCE", "BLOCKS"])
def test_the_benchmark_of_the_loss_measures_time_and_memory(form):
    import bench_loss

    measured = bench_loss.measure(getattr(bench_loss, form), 512, argparse.Namespace(seconds=0.01, rounds=2))
    assert min(measured["seconds"]) > 0
    assert 0 <= measured["gib"] < 1


def test_a_result_says_how_it_was_measured_and_that_of_a_gpu_stands_beside(tmp_path, monkeypatch):
    import common
    import scaling

    monkeypatch.setattr("sys.argv", ["/there/bench_step.py", "--packed", "a folder"])
    rows = [common.row("step", scaling.WHOLE, [1.0, 3.0, 2000.0], "scenes/s", True)]
    common.save("step", "on this machine", rows, [], tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "a GPU")
    common.save("step", "on a GPU", [rows[0] | {"value": 2000.0, "peak_gib": 40.0}], [], tmp_path)
    results = common.load_all(tmp_path)
    assert scaling.of_a_gpu(results) == (2000.0, 40.0)
    assert scaling.of_a_gpu({}) == (None, None)
    assert common.rows_table(results["step"]).iloc[0].tolist()[2] == "3 [1, 2,000] scenes/s"
    how = common.how(results["step-cuda"])
    assert how.startswith("`python benchmarks/bench_step.py --packed 'a folder'` on ") and "a GPU" in how


def test_the_script_of_every_result_is_there(measured):
    for result in measured.values():
        script = re.match(r"python (benchmarks/bench_\w+\.py)", result["command"])
        assert script is not None and (ROOT / script[1]).exists()


def test_scaling_md_is_what_the_results_and_the_code_give(measured):
    import scaling

    assert scaling.document(measured) == (BENCHMARKS / "scaling.md").read_text(encoding="utf-8")


#: Parts of the names of the ratios in the README's table, in its order.
TOLD = [
    *(("records over TorchGeo",), ("records over ConfigILM",)),
    *((f"{size} px over ConfigILM, {cores}",) for size in (64, 120) for cores in ("1 core", "2 cores")),
    *((f"packing over TorchGeo's reading, {cores}",) for cores in ("1 core", "a core of 2")),
    *(("CPU: overhead",), ("CPU: MoSAiC step / IaI-SimCLR",)),
    *(("GiB above the inputs", "cpu"), ("time in blocks", "cpu")),
]


def test_the_speeds_of_the_readme_are_the_measured_ones(measured):
    ratios = {one["what"]: one["value"] for result in measured.values() for one in result["ratios"]}
    table = README.partition("## How fast")[2].partition("On one NVIDIA H200")[0]
    cells = re.findall(r"^\| [^|]+ \| ([^|]*\d[^|]*) \|$", table, re.MULTILINE)
    told = [float(number) for cell in cells for number in re.findall(r"[\d.]+", cell)]
    for number, parts in zip(told, TOLD, strict=True):
        (value,) = [v for what, v in ratios.items() if v is not None and all(part in what for part in parts)]
        value *= 100 if "CPU: overhead" in parts else 1
        digits = 3 if value >= 100 else 2 if value >= 10 or value < 1 else 1
        assert number == pytest.approx(value, rel=0.5 * 10 ** (1 - digits)), parts


def test_the_speeds_on_a_gpu_of_the_readme_are_the_measured_ones(measured):
    ratios = [(one["what"], one["value"]) for one in measured["step-cuda"]["ratios"]]
    gains, over_graph, over_iai, busy = (
        [value for what, value in ratios if part in what]
        for part in ("kernel by kernel", "graph alone", "IaI-SimCLR", "busy")
    )
    section = README.partition("On one NVIDIA H200")[2].partition("## Notebooks")[0]
    section = " ".join(section.split()).replace(" %", "%")
    assert re.findall(r"([\d.]+) times", section) == [f"{gain:.1f}" for gain in gains]
    longer = f"{max(over_graph):.1%} longer than its graph alone"
    assert f"{longer}; over IaI-SimCLR in six passes it is at {over_iai[0]:.1f} (" in section
    assert f"the GPU works {busy[0]:.0%} of" in section


def test_a_result_stands_beside_the_one_before_it(measured):
    import common

    before = common.load_all(common.BEFORE)["step-cuda"]
    table = common.before_table(before, measured["step-cuda"]).set_index("candidate")
    assert [*table.columns] == ["group", "before: commit c2815dd", "now"]
    speeds, ratios = (
        table.loc["MoSAiC, data to optimiser"],
        table.loc["GPU: MoSAiC step / IaI-SimCLR in six passes"],
    )
    assert [*speeds[1:]] == ["3,687 [3,659, 3,715] scenes/s", "5,403 [5,402, 5,403] scenes/s"]
    assert [*ratios[1:]] == ["1.53", "2.55"]
    assert table.at["torch.compile", "now"] == "not measured"


def test_the_hours_on_a_gpu_of_the_readme_follow_from_the_measured_step(measured, monkeypatch):
    rows = measured["step-cuda"]["rows"]
    rates = {row["group"]: row["value"] for row in rows if row["name"].startswith("captured")}
    small, large = rates["resnet18, 64 px, 256 scenes"], rates["resnet50, 120 px, 512 scenes"]
    at_120 = small * (64 / 120) ** 2
    monkeypatch.setattr(plan, "gpus", lambda: ["0"])
    hours = {}
    for profile, patches, rate in (
        ("bench5", 24_002, at_120),
        ("full-light", 480_038, small),
        ("full", 480_038, large),
    ):

        def cost(trial, rate=rate):
            streams = min(2, len(get_method(trial.method).streams))
            return {"step": streams / 2 * trial.batch_scenes / rate, "parameters": 0.0, "width": 0.0}

        settings = validated(StudySettings, profile, load_profile(profile)[1])
        hours[profile] = plan.stages(settings, patches, cost)["hours"].sum()
    told = re.findall(r"^\| `([\w-]+)`.*about ([\d.]+) h \|$", README, re.MULTILINE)
    assert {name: float(number) for name, number in told} == pytest.approx(hours, rel=0.02)
    assert hours["full-light"] < 24
