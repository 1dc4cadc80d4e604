import torch


def test_queue_holds_the_latest_keys_with_labels_and_flags(build, make_step):
    objective = build("supcon_queue")
    steps = [make_step(seed=seed) for seed in range(3)]
    for step in steps:
        objective(step)
    assert objective.enqueued == 96
    # 96 keys through 40 entries: entry 96 % 40 = 16 is next, the latest lie before it
    latest = (64 + torch.arange(32)) % 40
    assert torch.equal(objective.queue_labels[latest], steps[-1].labels.repeat(4, 1))
    assert torch.equal(objective.queue_labelled[latest], steps[-1].labelled.repeat(4))
    torch.testing.assert_close(objective.queue.norm(dim=1), torch.ones(40))


def test_keys_carry_no_gradient_and_follow_slowly(build, step):
    objective = build("supcon_queue", key_momentum=0.9)
    with torch.no_grad():
        objective._online[0].scale.add_(1.0)
    objective(step)["total"].backward()
    torch.testing.assert_close(objective.key_encoder.scale.detach(), torch.tensor(1.1))
    assert all(p.grad is None for p in objective.key_encoder.parameters())
    names = dict(objective.named_parameters())
    assert not any("online" in name for name in names)
    assert {n for n, p in names.items() if p.requires_grad} == {n for n in names if n.startswith("heads.")}


def test_nothing_moves_in_evaluation(build, step):
    objective = build("supcon_queue").eval()
    objective(step)
    assert objective.enqueued == 0
    assert not objective.queue.any()


def test_keys_of_an_encoder_in_half_precision_are_projected_in_float32(build, step):
    objective = build("supcon_queue")
    objective.key_encoder.register_forward_hook(lambda *call: {s: f.bfloat16() for s, f in call[-1].items()})
    with torch.autocast("cpu", torch.bfloat16):
        objective(step)["total"].backward()
    torch.testing.assert_close(objective.queue[:32].norm(dim=1), torch.ones(32))
