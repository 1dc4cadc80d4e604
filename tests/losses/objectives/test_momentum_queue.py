import pytest
import torch
from torch.nn import functional

from mosaic.losses.contrastive import weighted_contrastive_loss
from mosaic.losses.label_kernels import pair_weights
from mosaic.losses.objectives.base import ObjectiveSettings, Step
from mosaic.losses.objectives.momentum_queue import Queue
from mosaic.losses.terms import Temperatures
from mosaic.methods import get_method
from mosaic.models.encoders import Encoder

CLASSES, SCENES = 5, 6


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return Encoder("light", {"s1": 2, "s2": 3}, image_size=16)


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


def make(encoder, **settings):
    options = {"classes": CLASSES, "projection_dim": 8, "queue_size": 40, **settings}
    return Queue(get_method("supcon_queue"), encoder, encoder.feature_dims, ObjectiveSettings(**options))


def test_second_step_is_the_explicit_loss_over_keys_and_queue(encoder):
    objective = make(encoder, temperatures=Temperatures(label=0.2))
    first, second = step_of(encoder, 1), step_of(encoder, 2)
    objective(first)
    queue, queue_labels = objective.queue[:24].clone(), objective.queue_labels[:24].clone()
    found = objective(second)["label"]
    projected = objective.heads.project("label", second.features)
    query = torch.cat([z.flatten(0, 1) for z in projected.values()])
    keys = objective.queue[(24 + torch.arange(24)) % 40]  # of this step: they have just been put there
    labels = second.labels.repeat(4, 1)
    total = torch.zeros(())
    everyone = torch.cat([labels, queue_labels])
    for i in range(24):
        weights, logits = [], []
        for j, (key, other) in enumerate(zip(torch.cat([keys, queue]), everyone, strict=True)):
            if j == i:
                continue
            union = ((labels[i] + other) > 0).sum()
            jaccard = (labels[i] * other).sum() / union.clamp_min(1)
            weights.append(torch.tensor(1.0) if j < 24 and j % 6 == i % 6 else jaccard)
            logits.append(query[i] @ key / 0.2)
        q = torch.stack(weights) / sum(weights)
        log_p = torch.log_softmax(torch.stack(logits), 0)
        total = total + (torch.special.xlogy(q, q) - q * log_p).sum()
    torch.testing.assert_close(found, total / 24, rtol=1e-4, atol=1e-4)


def test_queue_holds_the_latest_keys_and_their_labels(encoder):
    objective = make(encoder)
    steps = [step_of(encoder, seed) for seed in range(3)]
    for step in steps:
        objective(step)
    assert objective.place == 72
    # 72 keys through 40 places: place 72 % 40 = 32 is next, the latest lie before it
    latest = steps[-1].labels.repeat(4, 1)
    assert torch.equal(objective.queue_labels[(48 + torch.arange(24)) % 40], latest)
    torch.testing.assert_close(objective.queue.norm(dim=1), torch.ones(40))


def test_keys_carry_no_gradient_and_follow_slowly(encoder):
    objective = make(encoder, key_momentum=0.9)
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


def test_unlabelled_scenes_are_no_anchors_and_nobodys_positives(encoder):
    labelled = torch.tensor([True, True, False, False, False, False])
    objective = make(encoder).eval()
    step = step_of(encoder, 3, labelled)
    found = objective(step)["label"]
    query = torch.cat([z.flatten(0, 1) for z in objective.heads.project("label", step.features).values()])
    keys = objective._keys(step)
    labels = step.labels.repeat(4, 1)
    weights = pair_weights(labels, "jaccard")
    own = torch.eye(SCENES).repeat(4, 4).fill_diagonal_(0)
    weights = torch.where(own > 0, own, weights) * labelled.repeat(4)[:, None]
    torch.testing.assert_close(found, weighted_contrastive_loss(query, weights, 0.1, keys))
    assert not weights[:, ~labelled.repeat(4)][labelled.repeat(4)].any()


def test_nothing_moves_in_evaluation(encoder):
    objective = make(encoder).eval()
    objective(step_of(encoder, 0))
    assert objective.place == 0
    assert functional.normalize(objective.queue, dim=1).abs().sum() == 0


def test_a_large_batch_is_the_same_in_blocks(encoder, monkeypatch):
    objective = make(encoder, kernel="idf_jaccard")
    objective(step_of(encoder, 0))
    objective.eval()
    plain = objective(step_of(encoder, 1))["label"]
    monkeypatch.setattr("mosaic.losses.contrastive.CPU_BLOCK", 100)
    monkeypatch.setattr("mosaic.losses.contrastive.summed_divergence", None)  # the plain form is out of reach
    torch.testing.assert_close(objective(step_of(encoder, 1))["label"], plain)
