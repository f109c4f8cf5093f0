"""Student, teacher and objectives as one model: what moves, what is saved, what an encoder reads from it."""

import pytest
import torch
from tiny_pretraining import assert_equal_tensors, batch_of, build_model

from synclr_hf.errors import UserInputError
from synclr_hf.models import SynCLRModel
from synclr_hf.training import SynCLRForPreTraining


def test_loss_is_the_weighted_sum_of_its_parts(dataset):
    batch = batch_of(dataset)
    objectives = [dict(entry) for entry in build_model().config.objectives]
    objectives[1]["weight"] = 0.5
    output = build_model(objectives)(**batch)
    parts = {name: value.item() for name, value in output.parts.items()}
    assert set(parts) == {"contrastive_global", "contrastive_local", "ibot", "teacher_temperature"}
    expected = parts["contrastive_global"] + parts["contrastive_local"] + 0.5 * parts["ibot"]
    assert output.loss.item() == pytest.approx(expected, rel=1e-6)


def test_every_student_parameter_gets_a_gradient_and_no_teacher_one(model, dataset):
    model.train()
    model(**batch_of(dataset)).loss.backward()
    teachers = {id(p) for _, teacher in model.teacher_pairs() for p in teacher.parameters()}
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (id(parameter) in teachers), name
        if parameter.grad is not None:
            assert parameter.grad.abs().sum() > 0, name


def test_teacher_starts_as_a_copy_moves_by_average_and_stays_in_evaluation(model):
    pairs = [
        (s, t)
        for student, teacher in model.teacher_pairs()
        for s, t in zip(student.parameters(), teacher.parameters(), strict=True)
    ]
    assert len(pairs) > 40 and all(torch.equal(s, t) for s, t in pairs)
    with torch.no_grad():
        for student, _ in pairs:
            student += 1
    before = [teacher.clone() for _, teacher in pairs]
    model.update_teacher(0.75)
    for old, (_, teacher) in zip(before, pairs, strict=True):
        torch.testing.assert_close(teacher, old + 0.25)
    model.train()
    assert model.student.training and not model.synclr.training
    assert not model.objectives["ibot"].teacher_head.training


def test_the_teacher_sees_no_masks_and_the_student_does(model, dataset):
    batch = batch_of(dataset)
    model.eval()
    seen = model.teacher_features(batch["pixel_values"]).cls
    torch.testing.assert_close(seen, model.synclr(batch["pixel_values"]).pooler_output)
    student = model.student_features(batch["pixel_values"], batch["bool_masked_pos"], batch["local_pixel_values"])
    masked = batch["bool_masked_pos"].any(1)
    torch.testing.assert_close(student["global"].cls[~masked], seen[~masked])
    assert (student["global"].cls[masked] - seen[masked]).abs().amax(1).min() > 1e-4
    assert student["local"].cls.shape == (2 * len(seen), 32)


def test_saved_whole_and_read_by_the_encoder(model, tmp_path):
    with torch.no_grad():
        for parameter in model.synclr.parameters():
            parameter += 0.01
    model.save_pretrained(tmp_path)
    loaded = SynCLRForPreTraining.from_pretrained(tmp_path)
    assert loaded.config.objectives == model.config.objectives
    assert_equal_tensors(model.state_dict(), loaded.state_dict())
    encoder, info = SynCLRModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert_equal_tensors(model.synclr.state_dict(), encoder.state_dict())


def test_without_masks_there_is_no_mask_token(dataset):
    model = build_model([{"name": "multi_positive", "head_hidden_size": 32, "head_output_size": 16}])
    assert model.student.embeddings.mask_token is None
    batch = batch_of(dataset)
    assert torch.isfinite(model(**batch).loss)
    with pytest.raises(ValueError, match="need bool_masked_pos"):
        build_model()(**{**batch, "bool_masked_pos": None})


def test_unknown_objectives_and_settings_are_one_line():
    with pytest.raises(UserInputError, match="unknown objective 'ibott' .did you mean 'ibot'."):
        build_model([{"name": "ibott"}])
    with pytest.raises(UserInputError, match="objective 'ibot' refuses its settings: .*'prototypes'"):
        build_model([{"name": "ibot", "prototypes": 3}])
