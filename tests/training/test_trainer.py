"""Training for real: what is logged, what moves, and that a resumed run is the uninterrupted one."""

import json
import math
from pathlib import Path

import pytest
import torch
from tiny_pretraining import arguments, assert_equal_weights, build_dataset, build_model, losses

from synclr_hf.errors import UserInputError
from synclr_hf.training import SynCLRTrainer, last_complete_checkpoint
from synclr_hf.training.schedules import cosine


def trained(dataset, folder, resume=None, **changes):
    trainer = SynCLRTrainer(model=build_model(), args=arguments(folder, **changes), train_dataset=dataset)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return trained(build_dataset(), tmp_path_factory.mktemp("whole"))


def test_every_part_of_the_loss_and_every_schedule_is_logged(whole):
    logs = [entry for entry in whole.state.log_history if "loss" in entry]
    assert [entry["step"] for entry in logs] == list(range(1, 8))
    for entry in logs:
        parts = entry["contrastive_global"] + entry["contrastive_local"] + entry["ibot"]
        assert entry["loss"] == pytest.approx(parts, rel=1e-3)
        assert {"learning_rate", "grad_norm", "ema_decay", "weight_decay", "teacher_temperature"} <= set(entry)
    assert logs[-1]["ema_decay"] == pytest.approx(1.0) and logs[0]["ema_decay"] < 0.9950
    assert logs[-1]["weight_decay"] == pytest.approx(0.2)


def test_every_parameter_moved_and_the_teacher_by_its_average_only(dataset, tmp_path):
    trainer = trained(dataset, tmp_path, max_steps=1, ema_decay=0.9, ema_decay_end=0.9)
    start, model = build_model(), trainer.model
    student_start = dict(start.student.named_parameters())
    for (name, teacher), student in zip(model.synclr.named_parameters(), model.student.parameters(), strict=True):
        assert not torch.equal(student, student_start[name]), name
        torch.testing.assert_close(teacher, student_start[name] + 0.1 * (student - student_start[name]))


def test_a_resumed_run_equals_the_uninterrupted_one(dataset, tmp_path, whole, capsys):
    """Stopped at step 4 of 7; an epoch has 3 steps, so both epochs and views must go on where they were."""
    checkpoint = Path(whole.args.output_dir) / "checkpoint-4"
    resumed = trained(dataset, tmp_path, resume=str(checkpoint))
    assert f"going on from {checkpoint}\n" in capsys.readouterr().err
    assert_equal_weights(resumed, whole)
    assert losses(resumed) == losses(whole)


def test_worker_processes_do_not_change_the_training(dataset, tmp_path, whole):
    assert losses(trained(dataset, tmp_path, dataloader_num_workers=2)) == losses(whole)


def test_tokens_positions_norms_and_biases_do_not_decay(whole):
    decayed, kept = ({id(p) for p in group["params"]} for group in whole.optimizer.param_groups)
    names = {id(p): name for name, p in whole.model.named_parameters()}
    assert {names[i].rpartition(".")[2] for i in decayed} == {"weight", "weight_v"}
    assert {"cls_token", "mask_token", "position_embeddings", "bias", "weight_g"} <= {
        names[i].rpartition(".")[2] for i in kept
    }
    assert whole.optimizer.param_groups[1]["weight_decay"] == 0
    last = cosine(0.04, 0.2, 6, 7)
    assert whole.optimizer.param_groups[0]["weight_decay"] == pytest.approx(last)


def test_an_unfinished_checkpoint_is_passed_over(tmp_path):
    assert last_complete_checkpoint(tmp_path) is None
    (tmp_path / "checkpoint-30-good").mkdir()  # a copy that somebody keeps
    for step, text in ((2, json.dumps({"global_step": 2})), (10, '{"global_st'), (9, None)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if text is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(text)
    assert last_complete_checkpoint(tmp_path).name == "checkpoint-2"


def test_cosine_schedule():
    assert [cosine(0.994, 1.0, step, 10) for step in (0, 10, 11)] == pytest.approx([0.994, 1.0, 1.0])
    assert cosine(0.04, 0.2, 3, 12) == pytest.approx(0.2 - 0.16 * (1 + math.cos(math.pi / 4)) / 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ema_decay": 1.5}, "ema_decay 1.5: allowed: 0 to 1; type ema_decay: 0.994"),
    ],
)
def test_unusable_arguments_are_one_line(tmp_path, changes, message):
    with pytest.raises(UserInputError, match=message):
        arguments(tmp_path, **changes)


class Bare(torch.utils.data.Dataset):
    """A data set of one's own: no sampler, but items (epoch, index); keeps what it was asked for."""

    def __init__(self, dataset):
        self.dataset, self.asked = dataset, []

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, key):
        self.asked.append(key)
        return self.dataset[key]


def test_a_data_set_of_ones_own_is_asked_in_the_same_order_and_resumes_in_its_epoch(dataset, tmp_path, whole):
    own = Bare(dataset)
    trainer = trained(own, tmp_path / "own", learning_rate=1e-3)
    assert [e["loss"] for e in trainer.state.log_history if "loss" in e] == [
        e["loss"] for e in whole.state.log_history if "loss" in e
    ]
    asked, own.asked = own.asked, []
    trained(own, tmp_path / "again", resume=str(tmp_path / "own" / "checkpoint-4"), learning_rate=1e-3)
    assert own.asked == asked[16:] and {epoch for epoch, _ in own.asked} == {1, 2}
