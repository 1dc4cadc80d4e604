"""The settings of the label term mean the same in every method that has one."""

import pytest
import torch
from torch.nn import functional

from mosaic.losses.label_kernels import pair_weights
from mosaic.losses.objectives.contrastive import pair_temperatures, rarity


def changed(threshold, *more, **always):
    """Return changes of the settings: none, each by itself, and two at once."""
    negatives, temperature = {"unlabelled_negatives": False}, {"temperature_label": 0.3}
    changes = [{}, {"kernel_threshold": threshold}, negatives, temperature, negatives | temperature, *more]
    return [always | change for change in changes]


ANY = [*changed(0.5), {"kernel": "idf_jaccard"}, *changed(0.15, kernel="mulsupcon")]
ANY += changed(0.05, {"msc_alpha": 3.0}, {"msc_beta": 1.0}, kernel="msc")
MACL = changed(0.5, {"temperature_spread": 0.0}, {"rarity_pull": 0.0})
CASES = [(name, changes) for name in ("supcon", "mosaic", "supcon_queue") for changes in ANY]
CASES += [("macl", changes) for changes in MACL]


def candidates_of(objective, step):
    """Return embeddings, labels, flags and scenes of all candidates; those of the queue are listed last."""
    views = objective.label_views(step)
    z, labels, labelled, scene = views.embeddings, views.labels, views.labelled, views.scene
    if hasattr(objective, "queue"):
        number = int(objective.enqueued)
        z = torch.cat([objective._keys(step), objective.queue[:number]])
        labels = torch.cat([labels, objective.queue_labels[:number]])
        labelled = torch.cat([labelled, objective.queue_labelled[:number]])
        scene = torch.cat([scene, -torch.ones(number)])
    return views.embeddings, z, labels, labelled, scene


def double_sum(objective, step):
    """Return the label term as a sum over anchors and candidates."""
    anchors, z, labels, labelled, scene = candidates_of(objective, step)
    settings, kernel = objective.settings, objective.method.kernel or objective.settings.kernel
    weights = pair_weights(labels, kernel, idf=objective.idf, alpha=settings.msc_alpha)
    to_prototypes = pair_weights(labels, kernel, alpha=settings.msc_alpha, prototypes=True)[:, len(labels) :]
    tau = torch.full((len(labels), len(labels)), settings.temperature_label)
    if objective.method.loss == "macl":
        constants = settings.temperature_label, settings.temperature_spread, settings.rarity_pull
        tau = pair_temperatures(labels, rarity(objective.idf), *constants)
    total, mass = 0.0, 0.0
    for i in range(len(anchors)):
        positives, exponentials = [], []  # weight and logit of each candidate, and what it adds below
        for a in range(len(z)):
            if a == i or not (settings.unlabelled_negatives or labelled[a]):
                continue
            weight = weights[i, a] if weights[i, a] >= settings.kernel_threshold else torch.zeros(())
            if kernel not in ("mulsupcon", "msc") and scene[i] == scene[a]:
                weight = torch.ones(())
            logit = anchors[i] @ z[a] / tau[i, a]
            # beta scales p as well as its denominator: a constant of the loss, without a gradient
            beta = settings.msc_beta if kernel == "msc" else 1.0
            positives.append((weight * labelled[i], logit + torch.tensor(beta).log()))
            exponentials.append(beta * logit.exp())
        for label in range(5 if kernel == "msc" else 0):
            prototype = functional.normalize(objective.prototypes[label], dim=0)
            logit = anchors[i] @ prototype / settings.temperature_label
            positives.append((to_prototypes[i, label], logit))
            exponentials.append(logit.exp())
        m = sum(weight for weight, _ in positives)
        if m > 0:
            share = m if kernel == "mulsupcon" else 1.0
            log_norm = torch.stack(exponentials).sum().log()
            for weight, logit in positives:
                if weight > 0:
                    q = weight / m
                    total = total + share * q * (q.log() - logit + log_norm)
            mass = mass + share
    return total / mass


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_label_term_is_its_double_sum_and_follows_every_setting(
    name, changes, make_step, build, small_blocks
):
    def term(**settings):
        objective, step = build(name, **settings), make_step(seed=1)
        objective(make_step())  # fills the queue
        objective.eval()
        return objective, step, objective(step)["label"]

    objective, step, value = term(**changes)
    torch.testing.assert_close(value, double_sum(objective, step), rtol=1e-4, atol=1e-5)
    for key in changes:
        others = {other: setting for other, setting in changes.items() if other != key}
        if key != "kernel" or len(changes) == 1:
            assert abs(term(**others)[2] - value) > 1e-4, f"{key} changes nothing"
