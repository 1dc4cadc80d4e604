import pytest
import torch

from mosaic.losses.label_kernels import pair_weights
from mosaic.losses.objectives.base import Step
from mosaic.models.encoders import Encoder

CLASSES, SCENES = 5, 6


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return Encoder("light", {"s1": {"s1": 2}, "s2": {"s2": 3}}, image_size=16)


@pytest.fixture
def make(build, encoder):
    return lambda **settings: build("supcon_queue", encoder, **{"queue_size": 40, **settings})


def step_of(encoder, seed, labelled=None):
    random = torch.Generator().manual_seed(seed)
    images = {
        "s1": torch.randn(2 * SCENES, 2, 16, 16, generator=random),
        "s2": torch.randn(2 * SCENES, 3, 16, 16, generator=random),
    }
    features = {s: f.unflatten(0, (2, SCENES)) for s, f in encoder(images).items()}
    labels = (torch.rand(SCENES, CLASSES, generator=random) < 0.5).float()
    known = torch.ones(SCENES, dtype=torch.bool) if labelled is None else labelled
    return Step(images, features, {}, labels * known[:, None], known)


@pytest.mark.parametrize("known", [SCENES, 2])
def test_second_step_is_the_loss_over_keys_and_queue(
    encoder, make, projected, dense_loss, small_blocks, known
):
    objective, labelled = make(temperature_label=0.2), torch.arange(SCENES) < known
    first, second = step_of(encoder, 1), step_of(encoder, 2, labelled)
    objective(first)
    queue, queue_labels = objective.queue[:24].clone(), objective.queue_labels[:24].clone()
    loss = objective(second)["label"]
    keys = objective.queue[(24 + torch.arange(24)) % 40]  # of this step: they have just been put there
    views = projected(objective, second)
    weights = pair_weights(torch.cat([views.labels, queue_labels]), "jaccard")[:24]
    weights[:, :24][torch.eye(SCENES).repeat(4, 4) > 0] = 1.0  # other views; its own key does not count
    weights[~views.labelled] = 0.0
    assert not weights[:, :24].fill_diagonal_(0)[:, ~views.labelled].any()
    expected = dense_loss(views.embeddings, weights, 0.2, torch.cat([keys, queue]))
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)


def test_queue_holds_the_latest_keys_and_their_labels(encoder, make):
    objective = make()
    steps = [step_of(encoder, seed) for seed in range(3)]
    for step in steps:
        objective(step)
    assert objective.enqueued == 72
    # 72 keys through 40 entries: entry 72 % 40 = 32 is next, the latest lie before it
    latest = steps[-1].labels.repeat(4, 1)
    assert torch.equal(objective.queue_labels[(48 + torch.arange(24)) % 40], latest)
    torch.testing.assert_close(objective.queue.norm(dim=1), torch.ones(40))


def test_keys_carry_no_gradient_and_follow_slowly(encoder, make):
    objective = make(key_momentum=0.9)
    before = objective.key_encoder.backbones["s1"].conv1[0].weight.clone()
    with torch.no_grad():
        encoder.backbones["s1"].conv1[0].weight.add_(1.0)
    objective(step_of(encoder, 0))["total"].backward()
    after = objective.key_encoder.backbones["s1"].conv1[0].weight
    torch.testing.assert_close(after, before + 0.1)
    assert all(p.grad is None for p in objective.key_encoder.parameters())
    names = dict(objective.named_parameters())
    assert not any("online" in name for name in names)
    assert {n for n, p in names.items() if p.requires_grad} == {n for n in names if n.startswith("heads.")}


def test_nothing_moves_in_evaluation(encoder, make):
    objective = make().eval()
    objective(step_of(encoder, 0))
    assert objective.enqueued == 0
    assert not objective.queue.any()
