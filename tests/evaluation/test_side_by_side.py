import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Dinov2Config, Dinov2Model

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.labelled_images import labelled_pictures
from synclr_hf.evaluation.protocols.linear_probe import Config as LinearProbeConfig
from synclr_hf.evaluation.side_by_side import EvaluationConfig, evaluate_encoders


def coloured(count, seed):
    """Three classes that differ in colour; two pictures a group."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) // 2 % 3
    pixels = generator.integers(0, 120, (count, 32, 32, 3))
    pixels[np.arange(count), :, :, labels] += 100
    pictures = [Image.fromarray(picture.astype(np.uint8)) for picture in pixels]
    return labelled_pictures(pictures, labels, ["red", "green", "blue"], np.arange(count) // 2)


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 8, "image_size": 32}
    return Dinov2Model(Dinov2Config(**sizes))


CONFIG = EvaluationConfig(linear_probe=LinearProbeConfig(epochs=10, batch_size=16))


def test_results_are_plain_complete_and_repeatable(encoder):
    train, test = coloured(60, 0), coloured(30, 1)
    results = evaluate_encoders({"untrained": encoder}, train, test, seed=5, config=CONFIG)
    assert json.loads(json.dumps(results)) == results
    for metric in ("knn_top1", "linear_top1"):
        assert set(results[metric]) == {"untrained", "pixels"}
        for name, value in results[metric].items():
            low, high = results["intervals"][metric][name]
            assert 0 <= low <= value <= high <= 1
    assert results["knn_top1"]["pixels"] == results["knn_top1_by_k"]["pixels"]["10"] == 1.0
    assert set(results["knn_top1_by_k"]["untrained"]) == {"1", "5", "10", "20"}
    assert (results["num_train"], results["num_test"], results["num_classes"]) == (60, 30, 3)
    assert results["chance"] == pytest.approx(1 / 3)
    assert results["settings"]["image_size"] == {"untrained": 32} and results["settings"]["seed"] == 5
    assert evaluate_encoders({"untrained": encoder}, train, test, seed=5, config=CONFIG) == results


def test_the_name_of_the_baseline_is_taken(encoder):
    with pytest.raises(UserInputError, match="the name 'pixels' stands for the baseline"):
        evaluate_encoders({"pixels": encoder}, coloured(12, 0), coloured(6, 1), seed=0, config=CONFIG)
