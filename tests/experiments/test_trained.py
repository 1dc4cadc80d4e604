"""Encoders of a tiny finished run, taken home: what they say of the original files is what the run said."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

import mosaic
from mosaic.__main__ import main
from mosaic.datasets.patch_files import read_patch
from mosaic.datasets.simulation.produce import write_geotiff
from mosaic.experiments.grid import pretrain_all
from mosaic.experiments.predict import predict_all
from mosaic.experiments.predictions import load as load_scores
from mosaic.experiments.study import Study
from mosaic.store.reader import PackedStore
from mosaic.utils.errors import ArchiveError, CheckpointError, RunError

METHODS = ["mosaic", "supervised_late", "supervised_early", "simclr_s2"]


@pytest.fixture(scope="module")
def predictions(packed, tmp_path_factory):
    """The table of predictions of a run called tiny, in a place of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOSAIC_ROOT", str(tmp_path_factory.mktemp("product")))
        store = PackedStore(packed)
        small = {"steps": 4, "batch_scenes": 16, "image_size": 24, "monitor_every": 0, "seeds": 1, "jobs": 1}
        given = {"methods": METHODS, "label_fractions": [50.0, 100.0], "label_budgets": ["shared"]}
        pretrain = Study.open("02_pretrain", {"out": "tiny", **small, **given})
        encoders = pretrain_all(pretrain, store)
        pretrain.write(encoders=encoders, choices={})
        evaluate = Study.open("03_finetune_low_label", {"out": "tiny", "evaluations": ["linear"], "jobs": 1})
        table = predict_all(evaluate, store, encoders)
        evaluate.write(predictions=table, results=table)
        yield table


@pytest.fixture(scope="module")
def patch(packed, fake_archive, tmp_path_factory):
    """Return the folders of a test patch, one a sensor, a file a band; and files of all bands."""
    folder, place = tmp_path_factory.mktemp("patch"), ((300000, 5400000), 32633)
    archive = fake_archive(folder)
    arrays = archive.read(PackedStore(packed).split_rows("test")[0])
    for sensor in archive.sensors:
        for band in sensor.bands:
            write_geotiff(folder / sensor.name / f"patch_{band}.tif", arrays[band][None], *place)
        grown = [np.kron(arrays[b], np.ones((24 // len(arrays[b]),) * 2)) for b in sensor.bands]
        layers = np.stack(grown).astype(arrays[sensor.bands[0]].dtype)
        write_geotiff(folder / f"{sensor.name}.tif", layers, *place)
    return folder


@pytest.fixture
def images(predictions, patch):
    """Sensor -> image of the test patch, as an encoder takes it."""
    return read_patch([patch / "s1", patch / "s2"], mosaic.load("tiny", "mosaic").bands, 24)


@pytest.mark.parametrize(
    ("method", "evaluation", "budget"),
    [
        ("mosaic", "linear", 50),
        ("mosaic", "linear", None),
        ("supervised_late", "end_to_end", 50),
        ("supervised_early", "end_to_end", None),
        ("simclr_s2", "linear", 50),
    ],
)
def test_a_patch_read_from_its_files_gets_the_scores_that_the_run_gave_it(
    predictions, store, images, method, evaluation, budget
):
    encoder = mosaic.load("tiny", method, budget=budget)
    rows = predictions[(predictions["method"] == method) & (predictions["evaluation"] == evaluation)]
    rows = rows[(rows["fraction"] == (budget or 100)) & (rows["label_budget"] != "full")].set_index("input")
    inputs = {"s2": ["s2"]} if method == "simclr_s2" else {"fused": ["s1", "s2"]}
    if evaluation == "linear" and len(encoder.bands) == 2:
        inputs |= {"fused_without_s1": ["s2"], "fused_without_s2": ["s1"]}
    for name, sensors in inputs.items():
        found = encoder.predict(**{sensor: images[sensor] for sensor in sensors})
        assert list(found) == list(store.class_names)
        np.testing.assert_allclose(list(found.values()), load_scores(rows.loc[name])[0], atol=4e-3)

    name, labels = next(iter(inputs)), store.labels[store.split_rows("validation")]
    scores = load_scores(rows.loc[name], "validation")
    for c, threshold in enumerate(encoder.thresholds.values()):
        best = max(f1_score(labels[:, c], scores[:, c] >= cut) for cut in scores[:, c])
        assert f1_score(labels[:, c], scores[:, c] >= threshold) == pytest.approx(best)


def test_features_are_of_the_kind_and_number_that_was_given(images):
    encoder = mosaic.load("tiny", "mosaic")
    one, tensors = encoder.embed(**images), {s: torch.from_numpy(image) for s, image in images.items()}
    assert isinstance(one, np.ndarray) and one.shape == (512,)
    several = encoder.embed(**{sensor: np.stack([image, 0.9 * image]) for sensor, image in images.items()})
    assert several.shape == (2, 512)
    np.testing.assert_allclose(several[0], one, atol=1e-5)
    assert torch.equal(encoder.embed(**tensors), torch.from_numpy(one))
    doubled = {sensor: np.kron(image, np.ones((1, 2, 2))) for sensor, image in images.items()}
    np.testing.assert_allclose(encoder.embed(**doubled), one, atol=1e-4)
    probabilities = encoder.predict(**{s: np.stack([image] * 3) for s, image in images.items()})
    assert all(values.shape == (3,) for values in probabilities.values())

    image, step = tensors["s2"].clone().requires_grad_(), 20.0
    encoder.embed(s2=image, differentiable=True).sum().backward()
    ahead, behind = (encoder.embed(s2=tensors["s2"] + k * step).sum().item() for k in (1, -1))
    assert image.grad.sum().item() == pytest.approx((ahead - behind) / (2 * step), rel=0.2)


def test_what_is_not_there_is_refused_with_what_is(predictions, images):
    encoder = mosaic.load("tiny", "simclr_s2")
    assert repr(encoder) == (
        "simclr_s2: light, 256 features\n  s2 (DN): B02, B03, B05, B08, B11\n"
        "  5 classes: water, forest, town, field, heath"
    )
    assert encoder.bands == {"s2": ("B02", "B03", "B05", "B08", "B11")}
    for arguments, message in (
        (("tin", "mosaic"), "no run with predictions is 'tin': there is tiny"),
        (("tiny", "iai"), "no method of these in run 'tiny' is 'iai': there is mosaic, simclr_s2, superv"),
        (("tiny", "mosaic", 1), "no seed of these in run 'tiny' is 1: there is 0"),
        (("tiny", "mosaic", 0, 10), r"no budget .* is 10: there is 50.0, 100.0"),
    ):
        with pytest.raises(RunError, match=message):
            mosaic.load(*arguments)
    with pytest.raises(CheckpointError, match="one or more of s2, found s1"):
        encoder.embed(s1=images["s1"])
    with pytest.raises(CheckpointError, match=r"neither \.onnx nor \.pt2"):
        encoder.export("encoder.pt")


def test_files_on_the_command_line(predictions, patch, images, capsys):
    folders, files = ([str(patch / f"{s}{end}") for s in ("s2", "s1")] for end in ("", ".tif"))
    assert main(["predict", "tiny", "mosaic", *folders, "--json", "--budget", "50"]) == 0
    told, encoder = json.loads(capsys.readouterr().out), mosaic.load("tiny", "mosaic", budget=50)
    for name, probability in encoder.predict(**images).items():
        assert told[name]["probability"] == pytest.approx(probability, abs=1e-6)
        assert told[name]["present"] == (probability >= encoder.thresholds[name])
    assert main(["predict", "tiny", "mosaic", *files]) == 0
    assert capsys.readouterr().out.split()[:3] == ["probability", "threshold", "present"]
    np.testing.assert_array_equal(read_patch([patch / "s1.tif"], encoder.bands, 24)["s1"], images["s1"])
    (patch / "part").mkdir()  # two bands, as many as the other sensor has
    for band in ("B02", "B03"):
        (patch / "part" / f"patch_{band}.tif").write_bytes((patch / "s2" / f"patch_{band}.tif").read_bytes())
    for wrong, message in (
        ([patch / "s1", patch / "s1.tif"], "has 2 bands: give one patch, with one file or folder of VV"),
        ([patch / "part"], "part has files of B02, B03: give one patch"),
        ([patch / "none.tif"], "the file is missing"),
    ):
        with pytest.raises(ArchiveError, match=message):
            read_patch(wrong, encoder.bands, 24)


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_an_exported_graph_embeds_the_same_outside(images, tmp_path, suffix):
    if suffix == ".onnx":
        runtime = pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    encoder = mosaic.load("tiny", "mosaic")
    path = encoder.export(tmp_path / f"encoder{suffix}")
    for size in (24, 31):  # of an image, and of the batch
        batch = {s: np.resize(image, (size // 8, len(image), size, size)) for s, image in images.items()}
        if suffix == ".onnx":
            (found,) = runtime.InferenceSession(path).run(None, batch)
        else:
            found = torch.export.load(path).module()({s: torch.from_numpy(i) for s, i in batch.items()})
        np.testing.assert_allclose(torch.as_tensor(found).detach(), encoder.embed(**batch), atol=1e-5)
