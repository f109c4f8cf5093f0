"""Batches and plans that would train nothing are refused before they do."""

import pytest
import torch
from tiny_pretraining import OBJECTIVES, Changed, arguments, build_model, replaced

from synclr_hf.errors import UserInputError
from synclr_hf.training import SynCLRTrainer

CONTRAST = OBJECTIVES[0]


def trained(dataset, folder, objectives=OBJECTIVES, **changes):
    settings = {"max_steps": 1, "save_strategy": "no", **changes}
    trainer = SynCLRTrainer(model=build_model(objectives), args=arguments(folder, **settings), train_dataset=dataset)
    trainer.train()
    return trainer


def without(*keys):
    return lambda item: {key: value for key, value in item.items() if key not in keys}


@pytest.mark.parametrize("key", ["caption_ids", "image_ids", "view_ids", "bool_masked_pos"])
@pytest.mark.parametrize("steps", [1, 2])
def test_missing_keys_are_named_with_those_found(dataset, tmp_path, key, steps):
    told = rf"the batch lacks {key}; found: .*pixel_values.*type train_dataset="
    with pytest.raises(UserInputError, match=told) as e:
        trained(Changed(dataset, without(key)), tmp_path, gradient_accumulation_steps=steps)
    assert key not in str(e.value).partition("found:")[2].partition(";")[0]


def test_only_what_the_objectives_need_is_asked_for(dataset, tmp_path):
    trained(Changed(dataset, without("bool_masked_pos")), tmp_path, [CONTRAST])
    with pytest.raises(UserInputError, match="the batch lacks class_ids; found:"):
        trained(dataset, tmp_path, [{**CONTRAST, "ids": "classes"}])


@pytest.mark.parametrize(("batch", "steps", "crops"), [(4, 1, 16), (3, 2, 24)])
def test_one_caption_everywhere_is_refused(dataset, tmp_path, batch, steps, crops):
    same = Changed(dataset, replaced("caption_ids", lambda item: torch.full_like(item["caption_ids"], 5)))
    with pytest.raises(
        UserInputError, match=f"all {crops} crops of the step belong to caption 5: nothing to contrast"
    ):
        trained(same, tmp_path, per_device_train_batch_size=batch, gradient_accumulation_steps=steps)


def test_captions_that_meet_in_the_window_only_are_enough(dataset, tmp_path):
    """One caption a batch, but others in the other batches of the optimizer step."""
    trainer = trained(dataset, tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=2)
    assert trainer.state.global_step == 1


def test_no_positives_are_refused(dataset, tmp_path):
    own = Changed(dataset, replaced("caption_ids", lambda item: item["view_ids"]))
    with pytest.raises(UserInputError, match="each of the 16 crops of the step has its own caption: no positives"):
        trained(own, tmp_path)
    with pytest.raises(UserInputError, match="has its own image: no positives.*type num_global_crops: 2"):
        trained(dataset, tmp_path, [{**CONTRAST, "ids": "images"}])


def test_without_a_contrast_ids_do_not_matter(dataset, tmp_path):
    own = Changed(dataset, replaced("caption_ids", lambda item: item["view_ids"]))
    trainer = trained(own, tmp_path, OBJECTIVES[1:], per_device_train_batch_size=1)
    assert trainer.state.log_history[0]["ibot"] > 0


def test_one_caption_an_optimizer_step_is_refused_before_training(dataset, tmp_path):
    with pytest.raises(UserInputError, match="one caption an optimizer step.*type per_device_train_batch_size: 2"):
        SynCLRTrainer(
            model=build_model(), args=arguments(tmp_path, per_device_train_batch_size=1), train_dataset=dataset
        )


def test_accumulation_without_a_teacher_is_refused_with_the_reason(dataset, tmp_path):
    objectives = [{**CONTRAST, "teacher": False}, OBJECTIVES[1]]
    with pytest.raises(UserInputError) as caught:
        SynCLRTrainer(
            model=build_model(objectives),
            args=arguments(tmp_path, gradient_accumulation_steps=2),
            train_dataset=dataset,
        )
    message = str(caught.value)
    assert "'multi_positive' contrasts the student's own features" in message and "cached gradients" in message
    assert "type gradient_accumulation_steps: 1" in message


def test_supervised_classification_may_accumulate(dataset, tmp_path):
    classes = Changed(dataset, replaced("class_ids", lambda item: item["caption_ids"] % 3))
    objective = [{"name": "cross_entropy", "num_classes": 3}]
    accumulated = trained(
        classes, tmp_path / "parts", objective, per_device_train_batch_size=1, gradient_accumulation_steps=4
    )
    whole = trained(classes, tmp_path / "whole", objective, per_device_train_batch_size=4)
    told = [trainer.state.log_history[0]["cross_entropy"] for trainer in (accumulated, whole)]
    assert told[0] == pytest.approx(told[1], rel=1e-5)


def test_without_a_teacher_the_encoder_is_the_student_itself(dataset, tmp_path):
    trainer = trained(dataset, tmp_path, [{**CONTRAST, "teacher": False}], max_steps=2)
    start = build_model([{**CONTRAST, "teacher": False}])
    for mine, student, first in zip(
        trainer.model.synclr.parameters(), trainer.model.student.parameters(), start.synclr.parameters(), strict=True
    ):
        assert torch.equal(mine, student) and not torch.equal(mine, first)
    assert "ema_decay" not in next(entry for entry in trainer.state.log_history if "loss" in entry)


def test_replaced_rows_are_counted_over_the_whole_run(dataset, tmp_path):
    def row(item):
        return torch.tensor([int(item["caption_ids"][0] in (3, 7))])

    counting = Changed(dataset, replaced("unreadable_rows", row))
    trainer = trained(counting, tmp_path, max_steps=6, save_strategy="steps", save_steps=4)
    told = [entry.get("unreadable_rows", 0) for entry in trainer.state.log_history if "loss" in entry]
    assert told[2] == 2 and told[5] == 4  # two of 12 captions, in each epoch of 3 steps
    again = SynCLRTrainer(model=build_model(), args=arguments(tmp_path / "again", max_steps=6), train_dataset=counting)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert [entry.get("unreadable_rows", 0) for entry in again.state.log_history if "loss" in entry] == told


def test_rows_that_decode_are_not_mentioned(dataset, tmp_path):
    counting = Changed(dataset, replaced("unreadable_rows", lambda item: torch.tensor([0])))
    assert all("unreadable_rows" not in entry for entry in trained(counting, tmp_path).state.log_history)


def test_nothing_masked_is_refused(dataset, tmp_path):
    bare = Changed(dataset, replaced("bool_masked_pos", lambda item: torch.zeros_like(item["bool_masked_pos"])))
    with pytest.raises(UserInputError, match="no patch of the step is masked.*type masked_image_fraction: 0.5"):
        trained(bare, tmp_path)
    trained(bare, tmp_path / "contrast", [CONTRAST])


def test_a_process_takes_one_gpu(tmp_path):
    several = arguments(tmp_path)
    several._n_gpu = 4  # what a machine with four GPUs would set
    assert several.n_gpu == 1 and several.train_batch_size == several.per_device_train_batch_size
