"""The Trainer on two processes: what it measures is that of both, and both end when one of them must."""

import math
import os
import socket
import tempfile

import pytest
import torch
from tiny_pretraining import Changed, Spoil, arguments, build_dataset, build_model, probe_pictures, replaced
from torch import multiprocessing

from synclr_hf.errors import UserInputError
from synclr_hf.training import SynCLRTrainer
from synclr_hf.training.probe import ProbeConfig, build_probe, knn_top1


def trained(folder, dataset, callbacks=(), **changes):
    settings = {"per_device_train_batch_size": 2, "max_steps": 3, "save_steps": 2, "learning_rate": None, **changes}
    trainer = SynCLRTrainer(
        model=build_model(),
        args=arguments(folder, **settings),
        train_dataset=dataset,
        eval_dataset=build_probe(ProbeConfig(), probe_pictures(), seed=0),
        callbacks=list(callbacks),
    )
    try:
        trainer.train()
    except UserInputError as error:
        return str(error)
    return [entry for entry in trainer.state.log_history if "loss" in entry or "eval_knn_top1" in entry]


def probed():
    """The accuracies of an encoder on pictures that do not fall into two equal parts, some of them unreadable."""
    settings = ProbeConfig(train_pictures=29, test_pictures=15)
    model = build_model()
    probe = build_probe(settings, probe_pictures(unreadable=(4, 9)), seed=0)
    return knn_top1({"teacher": model.synclr, "student": model.student}, probe)


def run(rank, port, folder, results):
    environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in environment.items()}
    dataset = build_dataset()

    @torch.no_grad()
    def spoil(model):
        if rank == 1:  # a bias of one process only, until the gradients of both are averaged
            model.student.norm.bias.fill_(math.nan)

    one_caption = Changed(dataset, replaced("caption_ids", lambda item: torch.full_like(item["caption_ids"], 5)))
    found = {
        "plain": trained(
            f"{folder}/plain",
            Changed(dataset, replaced("unreadable_rows", lambda item: torch.tensor([1]))),
            eval_strategy="steps",
            eval_steps=2,
            learning_rate=1e-3,
        ),
        "spoiled": trained(f"{folder}/spoiled", dataset, [Spoil(3, spoil)], logging_steps=4, max_steps=6),
        "one caption": trained(f"{folder}/one", one_caption, learning_rate=1e-3),
        "probe": probed(),
    }
    results.put((rank, found))
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        processes = [context.Process(target=run, args=(rank, port, folder, results)) for rank in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            assert process.exitcode == 0
        return dict(results.get() for _ in processes)


def test_both_log_the_same_numbers_over_both(found):
    first, second = found[0]["plain"], found[1]["plain"]
    own = {"loss", "epoch"}
    assert [{k: v for k, v in entry.items() if k not in own} for entry in first] == [
        {k: v for k, v in entry.items() if k not in own} for entry in second
    ]
    losses = [entry for entry in first if "loss" in entry]
    for entry in losses:
        parts = entry["contrastive_global"] + entry["contrastive_local"] + entry["ibot"]
        assert entry["loss"] == pytest.approx(parts, rel=1e-4)
        assert 1.5 < entry["rankme"] <= 8
    assert [entry["unreadable_rows"] for entry in losses] == [4, 8, 12]
    assert [entry["step"] for entry in first if "eval_knn_top1" in entry][0] == 2


def test_a_number_of_one_process_ends_both_with_its_name(found):
    for rank in range(2):
        message = found[rank]["spoiled"]
        assert message.startswith("contrastive_global: not finite at optimizer step 3; training stopped"), message
        assert "checkpoint-2 --dataset ... --output-dir ... with learning_rate:" in message


def test_one_caption_over_both_ends_both(found):
    for rank in range(2):
        assert "all 16 crops of the step belong to caption 5" in found[rank]["one caption"]


def test_both_share_the_pictures_of_the_probe_and_agree(found):
    assert found[0]["probe"] == found[1]["probe"] == probed()
