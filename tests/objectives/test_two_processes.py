"""Two processes with half of the batch each must give the loss and gradient of one process with all of it."""

import pytest
import torch
from torch import distributed, multiprocessing

from synclr_hf.objectives import Features, IBOTObjective, MultiPositiveObjective
from synclr_hf.views import masked_positions_of

CAPTIONS, IMAGES, PATCHES, WIDTH = 4, 2, 6, 5


def build(masked_everywhere, implementation):
    torch.manual_seed(0)
    contrast = MultiPositiveObjective(WIDTH, head_hidden_size=8, head_output_size=4)
    alone = MultiPositiveObjective(WIDTH, teacher=False, ids="images", head_hidden_size=8, head_output_size=4)
    ibot = IBOTObjective(WIDTH, num_prototypes=7, head_hidden_size=8, head_bottleneck_size=4)
    ibot.implementation = implementation
    for objective in (contrast, alone, ibot):
        for parameter in objective.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    generator = torch.Generator().manual_seed(1)
    rows = CAPTIONS * IMAGES
    student, local = (torch.randn(n, 1 + PATCHES, WIDTH, generator=generator) for n in (rows, 2 * rows))
    teacher = torch.randn(rows, 1 + PATCHES, WIDTH, generator=generator)
    ids = torch.arange(rows)
    masks = torch.rand(rows, PATCHES, generator=generator) < 0.5
    masks[::3] = False
    if not masked_everywhere:
        masks[rows // 2 :] = False  # the second process has nothing to predict
    # Captions are dealt out so that positives lie on both processes.
    batch = {"caption_ids": ids % CAPTIONS, "image_ids": ids % 3, "view_ids": ids, "bool_masked_pos": masks}
    return (contrast, alone, ibot), student, local, teacher, batch


def total_loss(objectives, student, local, teacher, batch):
    batch = batch | {"masked_positions": masked_positions_of(batch["bool_masked_pos"])}

    def features(x):
        return Features(x[:, 0], x[:, 1:][batch["bool_masked_pos"]] if len(x) == len(student) else None)

    streams = {"global": features(student), "local": features(local)}
    return sum(o(streams, o.targets(features(teacher), batch), batch)["loss"] for o in objectives)


def gradients(objectives):
    return [p.grad for o in objectives for p in o.parameters() if p.grad is not None]


def half(rank, port, results, masked_everywhere, implementation):
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    objectives, student, local, teacher, batch = build(masked_everywhere, implementation)
    n = len(student) // 2
    mine, mine_local = slice(rank * n, (rank + 1) * n), slice(rank * 2 * n, (rank + 1) * 2 * n)
    part = {name: value[mine] for name, value in batch.items()}
    loss = total_loss(objectives, student[mine], local[mine_local], teacher[mine], part)
    loss.backward()
    for gradient in [loss.detach(), *gradients(objectives)]:
        distributed.all_reduce(gradient)
        gradient /= 2
    if rank == 0:
        results.put([loss.item(), *(g.numpy().tolist() for g in gradients(objectives))])
    distributed.destroy_process_group()


@pytest.mark.parametrize(("masked_everywhere", "implementation"), [(True, "fast"), (False, "fast"), (False, "plain")])
def test_two_halves_equal_the_plain_whole(free_port, masked_everywhere, implementation):
    objectives, student, local, teacher, batch = build(masked_everywhere, "plain")
    loss = total_loss(objectives, student, local, teacher, batch)
    loss.backward()
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    settings = (free_port, results, masked_everywhere, implementation)
    processes = [context.Process(target=half, args=(rank, *settings)) for rank in range(2)]
    for process in processes:
        process.start()
    found = results.get()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    torch.testing.assert_close(torch.tensor(found[0]), loss.detach(), atol=1e-6, rtol=1e-6)
    assert len(found) - 1 == len(gradients(objectives)) > 5
    for mine, whole in zip(found[1:], gradients(objectives), strict=True):
        torch.testing.assert_close(torch.tensor(mine), whole, atol=2e-7, rtol=1e-5)
