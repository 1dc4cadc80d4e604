import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from mosaic.__main__ import main, parser
from mosaic.report.sequence import load_profile
from mosaic.settings import StudySettings, TrialSettings, fields

ROOT = Path(__file__).parents[1]
SMOKE = ("run", "--profile", "smoke")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--profile", "smkoe"], "no profile 'smkoe'; did you mean 'smoke'"),
        ([*SMOKE, "-p", "stpes=3"], "did you mean 'steps'"),
        ([*SMOKE, "-p", "encoder=resnt18"], "did you mean 'resnet18'"),
        ([*SMOKE, "-p", "encoder=vit_light", "-p", "image_size=50"], "choose a multiple of 8"),
        ([*SMOKE, "-p", "kernel=jacard"], "did you mean 'jaccard'"),
        ([*SMOKE, "-p", "methods=[mosaic_vit]", "-p", "vit_encoder=light"], "no vision transformer"),
        ([*SMOKE, "-p", "plugins=[absent.py]"], "absent.py is not there"),
        (
            [*SMOKE, "-p", "label_fractions=[1,100]"],
            "a label fraction of 1 % is 1 of 120 training patches, too few",
        ),
        ([*SMOKE, "--cluster-option", "gpus_per_node=1"], "add --cluster slurm"),
        (["run", "-p", "steps=3", "--sweep"], "two or more different values, not none"),
        (["run", "-p", "out=[a,b]", "--sweep"], "two or more different values, not none"),
        (["run", "-p", "steps=[3,3]", "--sweep"], "two or more different values, not steps=[3, 3]"),
        (["run", "-p", "methods=[iai,mosaic]", "--sweep"], "methods=[[iai],[iai,mosaic]] for one that is"),
        (["run", "-p", "steps=[3,4]", "-p", "seeds=[1,2]", "--sweep"], "not steps=[3, 4], seeds=[1, 2]"),
        (["run", "-p", "stpes=[3,4]", "--sweep"], "did you mean 'steps'"),
        (["run", "-p", "steps=[3,0]", "--sweep"], "greater than or equal to 1"),
        (["compare", "demo", "warm"], "no run 'demo'"),
        (["train", "nowhere", "--to", "few", "-p", "stpes=3"], "did you mean 'steps'"),
        (["train", "nowhere", "--to", "few", "--method", "mosaik"], "did you mean 'mosaic'"),
        (["train", "nowhere", "--to", "few"], "nowhere holds no packed data"),
        (["verify", "nowhere"], "nowhere"),
        (["report", "nowhere"], "nowhere"),
        (["predict", "nowhere", "mosaic", "x.tif"], "no run with predictions is 'nowhere': there is none"),
        (["simulate", "--patches", "3", "--folder", "few"], "3 patches are too few"),
    ],
)
def test_a_mistake_ends_with_one_message_and_leaves_nothing(
    tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.setenv("MOSAIC_ROOT", str(tmp_path))
    monkeypatch.setenv("MOSAIC_LAUNCH", "{}")
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    *progress, told = capsys.readouterr().err.splitlines()
    assert message in told
    assert not any("Traceback" in line for line in progress)
    assert not list(tmp_path.rglob("*.html"))
    assert not (tmp_path / "few").exists()


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("steps=3", 3),
        ("radiometry=0.5", 0.5),
        ("bands=10m", "10m"),
        ('methods=["iai"]', ["iai"]),
        ("methods=[mosaic, iai]", ["mosaic", "iai"]),
        ("methods=[[mosaic, iai],[iai]]", [["mosaic", "iai"], ["iai"]]),
        ("include_snow_cloud=True", True),
    ],
)
def test_parameters_are_json_where_they_can_be_and_need_no_quotes(word, value):
    assert parser().parse_args(["run", "-p", word]).parameter == [(word.partition("=")[0], value)]


@pytest.mark.parametrize(
    ("word", "told"), [("steps", ""), ("methods=[mosaic", "write methods=[first,second]")]
)
def test_a_parameter_that_cannot_be_read_is_refused(word, told, capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(["run", "-p", word])
    assert told in capsys.readouterr().err


def test_a_run_prints_its_plan_before_it_starts(monkeypatch):
    begun = Mock()
    monkeypatch.setattr("subprocess.run", begun.plan)
    monkeypatch.setattr("mosaic.report.sequence.run_notebooks", begun.run)
    monkeypatch.setenv("MOSAIC_LAUNCH", "{}")
    assert main(["run", "-p", "archive=there"]) == 0
    assert main(["run", "--archive", "there", "--dataset", "sen12ms", "-p", "bands=10m"]) == 0
    for call in begun.run.call_args_list:  # notebooks run elsewhere
        assert call.args[1]["01_explore_data"]["archive"] == str(Path("there").absolute())
    assert [name for name, *_ in begun.mock_calls] == ["plan", "run"] * 2
    words = begun.plan.call_args.args[0][3:]
    asked = parser().parse_args(words)
    assert (asked.command, asked.profile, asked.archive) == ("plan", "demo", "there")
    assert dict(asked.parameter) == {"dataset": "sen12ms", "bands": "10m"}


@pytest.mark.parametrize(
    ("words", "name", "values", "ends"),
    [
        ("temperature_label=[0.1,0.5]", "temperature_label", [0.1, 0.5], ["0.1", "0.5"]),
        ("methods=[[iai],[iai,mosaic]]", "methods", [["iai"], ["iai", "mosaic"]], ["iai", "iai-mosaic"]),
    ],
)
def test_a_sweep_runs_each_value_and_ends_on_the_comparison(monkeypatch, words, name, values, ends):
    begun = Mock()
    monkeypatch.setattr("mosaic.report.sequence.run_notebooks", begun)
    monkeypatch.setattr("mosaic.report.sequence.open_runs", list)
    monkeypatch.setenv("MOSAIC_LAUNCH", "{}")
    assert main(["run", "--profile=smoke", "--out=few", "-pseeds=2", f"-p{words}", "--sweep"]) == 0
    *runs, ((notebook,), given, folder) = [call.args for call in begun.call_args_list]
    assert [run[2].name for run in runs] == [f"few-{name}-{end}" for end in ends]
    assert [(run[1]["02_pretrain"][name], run[1]["02_pretrain"]["seeds"]) for run in runs] == [
        (value, 2) for value in values
    ]
    assert given == {notebook.stem: {"runs": [run[2].name for run in runs]}}
    assert folder.name == f"few-{name}-sweep"


def test_verify_tells_by_its_exit_status(shared_archive, capsys):
    assert main(["verify", str(shared_archive)]) == 0
    assert "24 pairs checked, no fault, 0 notes" in capsys.readouterr().out


def test_pack_from_the_command_line(shared_archive, tmp_path, capsys):
    assert main(["pack", str(shared_archive), "--to", str(tmp_path / "packed"), "--bands", "10m"]) == 0
    assert "24 pairs packed" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "packed" / "manifest.json").read_text())
    assert "B11" not in json.dumps(manifest["layout"])
    assert main(["verify", str(tmp_path / "packed")]) == 0
    assert "are as they were packed" in capsys.readouterr().out


def test_as_a_module():
    command = [sys.executable, "-m", "mosaic", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "0.1.0\n"


@pytest.mark.parametrize("page", ["README.md", "docs/cluster.md", "docs/distributed.md", "docs/extend.md"])
def test_every_command_and_parameter_of_the_pages_exists(page):
    text = re.sub("<[a-z ]+>", "name", (ROOT / page).read_text(encoding="utf-8"))
    blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", text, re.DOTALL)
    lines = [shlex.split(line, comments=True) for line in "".join(blocks).replace("\\\n", " ").splitlines()]
    commands = [words[words.index("mosaic") + 1 :] for words in lines if {"-m", "mosaic"} <= {*words}]
    for words in [words for words in lines if words[:2] == ["make", "study"]]:
        given = dict(word.split("=", 1) for word in words[2:])
        commands.append(
            ["run", "--profile", given.pop("PROFILE", "demo"), *shlex.split(given.pop("ARGS", ""))]
        )
        assert given.keys() <= {"OUT", "ARCHIVE"}
    assert commands
    for words in commands:
        asked = parser().parse_args([word for word in words if word != "..."])
        assert {name for name, _ in getattr(asked, "parameter", [])} <= {
            *fields(StudySettings),
            *fields(TrialSettings),
        }
        if "profile" in asked:
            load_profile(asked.profile)
