from types import SimpleNamespace

import torch
from transformers import TrainerControl, TrainerState

from synclr_hf.evaluation.finetuning.bar import TrainingBar


def told(capsys, *, device="cpu", max_steps=100, first=0):
    """What stands on standard error behind a step of two passes and the first pass of the next."""
    args = SimpleNamespace(device=torch.device(device), per_device_train_batch_size=512, gradient_accumulation_steps=2)
    state, control = TrainerState(max_steps=max_steps, global_step=first), TrainerControl()
    bar = TrainingBar("finetune, tiny", "finetune.epochs=10")
    bar.on_train_begin(args, state, control)
    bar.on_substep_end(args, state, control)
    bar.on_step_end(args, state, control)
    bar.on_log(args, state, control, {"loss": 2.3})
    bar.on_substep_end(args, state, control)
    bar.close()
    bar.close()
    return capsys.readouterr().err


def test_a_long_training_without_a_gpu_is_told_and_its_passes_are_shown(capsys):
    text = told(capsys)
    assert "finetune, tiny: 100 steps of 1,024 pictures without a GPU" in text
    assert "for less type finetune.epochs=10" in text
    assert "1/100" in text and "loss 2.300, pass 1 of 2" in text


def test_a_short_one_and_one_on_a_gpu_are_not(capsys):
    assert "without a GPU" not in told(capsys, max_steps=10)
    assert "without a GPU" not in told(capsys, device="cuda")


def test_a_stopped_training_says_where_it_goes_on(capsys):
    text = told(capsys, first=40)
    assert "finetune, tiny: goes on behind step 40" in text and "60 steps of 1,024" in text and "41/100" in text
