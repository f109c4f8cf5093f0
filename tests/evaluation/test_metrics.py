"""The metrics of `evaluate`, without a network and without a script."""

import ast
import gc
from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch

import synclr_hf
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation import measures
from synclr_hf.evaluation.metrics import ElevenPointMAP, MeanIoU, MeanPerClassAccuracy, TopKAccuracy


def predictions(rows=50, classes=7):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (rows,), generator=generator)
    scores = torch.randn(rows, classes, generator=generator)
    scores[torch.arange(rows), labels] += 1
    return scores, labels


def test_combined_and_added_in_batches():
    scores, labels = predictions()
    metric = evaluate.combine([TopKAccuracy(ks=(1, 3)), MeanPerClassAccuracy()])
    for rows in torch.arange(49).split(20):
        metric.add_batch(predictions=scores[rows], references=labels[rows])
    metric.add(prediction=scores[49], reference=labels[49])
    found = metric.compute()
    predicted = scores.argmax(dim=1)
    assert found == {
        "accuracy": pytest.approx(measures.top_k_accuracy(scores, labels, 1)),
        "top3_accuracy": pytest.approx(measures.top_k_accuracy(scores, labels, 3)),
        "mean_per_class_accuracy": pytest.approx(measures.mean_per_class_accuracy(predicted, labels)),
    }
    at_once = metric.compute(predictions=scores.numpy(), references=labels.tolist())
    assert at_once == found  # and nothing is left of the first time


def test_predicted_classes_and_labels_beyond_the_scores():
    scores, labels = predictions()
    by_class = MeanPerClassAccuracy().compute(predictions=scores.argmax(dim=1).tolist(), references=labels)
    assert by_class == MeanPerClassAccuracy().compute(predictions=scores.tolist(), references=labels)
    labels[:5] = 9
    found = TopKAccuracy(ks=(7, 100)).compute(predictions=scores, references=labels)
    assert found == {"top7_accuracy": 0.9, "top100_accuracy": 0.9}


def test_eleven_points_with_difficult_pictures():
    scores, labels = predictions()
    targets = torch.nn.functional.one_hot(labels, 7).double()
    targets[3, 2], targets[4, 5] = -1, torch.nan
    metric = ElevenPointMAP()
    for rows in (slice(0, 30), slice(30, 50)):
        metric.add_batch(predictions=scores[rows], references=targets[rows])
    expected = measures.eleven_point_average_precision(scores, targets).nanmean().item()
    assert metric.compute() == {"map_11point": pytest.approx(expected)}


def test_masks_of_many_sizes_are_kept_as_counts():
    generator = torch.Generator().manual_seed(0)
    sizes = [(40, 60), (80, 30), (40, 60)]
    targets = [torch.randint(3, size, generator=generator) for size in sizes]
    guesses = [torch.where(torch.rand(mask.shape, generator=generator) < 0.6, mask, 0) for mask in targets]
    targets[0][:5] = 255
    metric = MeanIoU(num_classes=4)
    metric.add_batch(predictions=guesses[:2], references=[mask.numpy() for mask in targets[:2]])
    metric.add(prediction=guesses[2], reference=targets[2])
    found = metric.compute()
    confusion = sum(measures.confusion_matrix(*pair, 4) for pair in zip(guesses, targets, strict=True))
    assert found["mean_iou"] == pytest.approx(measures.mean_iou(confusion))
    assert found["pixel_accuracy"] == pytest.approx(measures.pixel_accuracy(confusion))
    expected = measures.class_iou(confusion)[:3].tolist()
    assert found["per_class_iou"] == [*map(pytest.approx, expected), None]
    same_size = metric.compute(predictions=np.stack([guesses[0], guesses[2]]), references=[targets[0], targets[2]])
    assert 0 < same_size["mean_iou"] < 1


def test_files_lie_in_a_folder_that_goes_with_the_metric(tmp_path):
    metric = MeanIoU(num_classes=2)
    folder = Path(metric.data_dir)
    assert folder.is_dir() and "synclr-metric-" in str(folder)
    metric.add_batch(predictions=torch.zeros(100, 64, 64), references=torch.zeros(100, 64, 64))
    assert sum(file.stat().st_size for file in folder.iterdir()) < 100 * 64  # not a byte a pixel
    assert metric.compute()["mean_iou"] == 1
    del metric
    gc.collect()
    assert not folder.exists()
    chosen = TopKAccuracy(cache_dir=str(tmp_path))
    assert str(tmp_path) in chosen.data_dir


def test_every_metric_says_what_it_is():
    ours = (TopKAccuracy(), MeanPerClassAccuracy(), ElevenPointMAP(), MeanIoU(num_classes=2))
    names = ["top_k_accuracy", "mean_per_class_accuracy", "eleven_point_map", "mean_iou"]
    assert [metric.name for metric in ours] == names
    for metric in ours:
        assert metric.description and metric.citation.startswith("@") and "predictions:" in metric.inputs_description
        assert metric.inputs_description in metric.compute.__doc__


@pytest.mark.parametrize(
    ("metric", "predictions", "references", "message"),
    [
        (TopKAccuracy, [[0.1, 0.9]], [0, 1], "1 predictions beside 2 references"),
        (TopKAccuracy, [[0.1, 0.9]], None, "predictions or references are missing; give both"),
        (TopKAccuracy, [1, 0], [0, 1], r"shape \(2,\); needed: a score a class"),
        (TopKAccuracy, [[0.1, float("nan")]], [0], "1 of 1 pictures have a score that is not a number"),
        (MeanPerClassAccuracy, [0], [-1], "a reference is -1; allowed: class numbers of 0 or more"),
        (ElevenPointMAP, [[0.1, 0.9]], [0], r"shape \(1, 2\), references \(1,\); needed"),
        (lambda: MeanIoU(num_classes=2), [[[0, 2]]], [[[0, 1]]], "a predicted class is 2; allowed: 0 to 1"),
    ],
)
def test_bad_input(metric, predictions, references, message):
    with pytest.raises(UserInputError, match=message):
        metric().compute(predictions=predictions, references=references)
    with pytest.raises(UserInputError, match=r"ks is \[0\]; allowed"):
        TopKAccuracy(ks=(0,))


def test_nobody_else_imports_evaluate():
    package = Path(synclr_hf.__file__).parent
    for path in package.rglob("*.py"):
        names = set(imported(path)) if "evaluate" in path.read_text() or "metrics" in path.read_text() else set()
        assert path.name == "metrics.py" or "evaluate" not in {name.split(".")[0] for name in names}, path
        assert "synclr_hf.evaluation.metrics" not in names, f"{path}: brings `evaluate` into the room"


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
