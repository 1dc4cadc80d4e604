"""In one process; tests/training/test_two_processes.py gathers over several, with gradient."""

import torch

from mosaic.utils.distributed import gather, own_shard, sum_over_processes


def test_a_process_alone_keeps_what_it_has():
    own = torch.arange(6.0).view(2, 3)
    assert gather(own, dim=1) is own
    assert own_shard(5) == slice(0, 5)
    assert sum_over_processes(own) is own
