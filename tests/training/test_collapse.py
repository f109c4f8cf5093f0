"""Effective ranks against plain computations, and the alarm of a model that has collapsed."""

import numpy as np
import pytest
import torch
from tiny_pretraining import arguments, build_model

from synclr_hf.objectives.ibot import sinkhorn_knopp
from synclr_hf.training import SynCLRTrainer
from synclr_hf.training.collapse import (
    LOGS_BETWEEN_WARNINGS,
    CollapseAlarm,
    collapse_numbers,
    prototype_usage,
    rankme,
)


def entropy(shares):
    return -sum(share * np.log(share) for share in shares if share > 0)


def test_rankme_equals_a_plain_computation():
    features = torch.randn(40, 12, generator=torch.Generator().manual_seed(0)) * torch.linspace(0, 1, 12)
    values = np.linalg.svd(features.double().numpy(), compute_uv=False)
    assert rankme(features).item() == pytest.approx(np.exp(entropy(values / values.sum())), rel=1e-5)


def test_rankme_of_known_features():
    assert rankme(torch.eye(8)).item() == pytest.approx(8, rel=1e-6)
    assert rankme(torch.ones(9, 5)).item() == pytest.approx(1, abs=1e-3)
    assert rankme(torch.zeros(9, 5)).item() == 1
    assert rankme(torch.ones(9, 5, dtype=torch.bfloat16)).dtype == torch.float32
    assert rankme(torch.tensor([[float("inf"), 1.0]])).isnan()


def test_prototype_usage_equals_a_plain_computation():
    assignments = torch.rand(3000, 11, generator=torch.Generator().manual_seed(0)).pow(6)
    assignments /= assignments.sum(1, keepdim=True)
    rows = assignments.double().numpy()
    together, own = entropy(rows.mean(0)), np.mean([entropy(row) for row in rows])
    found = prototype_usage(assignments)
    assert found["prototype_perplexity"].item() == pytest.approx(np.exp(together), rel=1e-5)
    assert found["prototypes_told_apart"].item() == pytest.approx(np.exp(together - own), rel=1e-4)


def test_sinkhorn_hides_from_the_perplexity_that_all_patches_look_alike():
    alike = torch.randn(1, 20, generator=torch.Generator().manual_seed(0)).expand(300, -1)
    found = prototype_usage(sinkhorn_knopp(alike, temperature=0.04))
    assert found["prototype_perplexity"].item() == pytest.approx(20, rel=1e-3)
    assert found["prototypes_told_apart"].item() == pytest.approx(1, abs=1e-3)
    apart = prototype_usage(sinkhorn_knopp(torch.eye(20).repeat(15, 1), temperature=0.04))
    assert apart["prototypes_told_apart"].item() == pytest.approx(20, rel=1e-3)
    one = prototype_usage(torch.eye(20)[:1].expand(300, -1))
    assert one["prototype_perplexity"].item() == pytest.approx(1)


def test_a_few_prototypes_or_none_are_passed_over():
    assert set(collapse_numbers(torch.randn(4, 3), torch.ones(5, 4) / 4)) == {"rankme"}
    assert collapse_numbers(None, None) == {}


def test_the_alarm_sounds_at_once_and_then_rests():
    alarm = CollapseAlarm()
    assert alarm.warnings(1, {"rankme": 40.0, "loss": 0.0}) == []
    (line,) = alarm.warnings(2, {"rankme": 3.9})  # less than a tenth of the first
    assert line.startswith("warning: features collapse at step 2: rankme is 3.9, it began with 40;")
    assert "learning_rate" in line and "ema_decay" in line and "\n" not in line
    told = [step for step in range(3, 30) if alarm.warnings(step, {"rankme": 1.0})]
    assert told == [2 + LOGS_BETWEEN_WARNINGS, 2 + 2 * LOGS_BETWEEN_WARNINGS]


def test_the_alarm_knows_the_first_value_after_a_resume():
    alarm = CollapseAlarm.after([{"step": 1, "rankme": 40.0}, {"step": 2, "rankme": 39.0}, {"eval_knn_top1": 0.5}])
    assert alarm.warnings(3, {"rankme": 3.9}) and not CollapseAlarm.after([]).warnings(3, {"rankme": 3.9})


def logged(dataset, folder, model, **changes):
    settings = {"max_steps": 3, "save_strategy": "no", **changes}
    trainer = SynCLRTrainer(model=model, args=arguments(folder, **settings), train_dataset=dataset)
    trainer.train()
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def test_a_healthy_model_is_logged_and_raises_no_alarm(dataset, tmp_path, capsys):
    logs = logged(dataset, tmp_path, build_model())
    assert all(1.5 < entry["rankme"] <= 16 for entry in logs)
    assert all(1.5 < entry["prototype_perplexity"] <= 24 for entry in logs)
    assert all(1.02 < entry["prototypes_told_apart"] <= 24 for entry in logs)
    assert "collapse" not in capsys.readouterr().err


def test_a_collapsed_model_is_told_at_once(dataset, tmp_path, capsys):
    model = build_model()
    with torch.no_grad():
        for encoder in (model.synclr, model.student):
            encoder.norm.weight.zero_()
            encoder.norm.bias.fill_(1)
    logs = logged(dataset, tmp_path, model, learning_rate=1e-9)
    assert logs[0]["rankme"] == pytest.approx(1, abs=1e-3)
    assert logs[0]["prototypes_told_apart"] == pytest.approx(1, abs=1e-3)
    told = [line for line in capsys.readouterr().err.splitlines() if "collapse" in line]
    assert [line.split(":")[1].strip() for line in told] == [
        "features collapse at step 1",
        "prototypes collapse at step 1",
    ]


def test_only_logged_steps_keep_the_assignments(dataset, tmp_path, monkeypatch):
    kept = []
    compute = SynCLRTrainer.compute_loss

    def watched(self, *args, **kwargs):
        loss = compute(self, *args, **kwargs)
        kept.append(self._last_outputs[1] is not None)
        return loss

    monkeypatch.setattr(SynCLRTrainer, "compute_loss", watched)
    logs = logged(dataset, tmp_path, build_model(), max_steps=4, logging_steps=2)
    assert kept == [False, True, False, True] and len(logs) == 2


def test_without_a_teacher_the_features_are_the_students(dataset, tmp_path):
    contrast = {"name": "multi_positive", "teacher": False, "head_hidden_size": 32, "head_output_size": 16}
    logs = logged(dataset, tmp_path, build_model([contrast]))
    assert all(1.5 < entry["rankme"] <= 16 and "prototype_perplexity" not in entry for entry in logs)
