"""The linear probe on pictures of several classes each, as in VOC2007."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tiny_evaluation import coloured, tiny_context

from synclr_hf.evaluation.protocols.linear_probe import Config, evaluate


def several_classes(count, seed):
    """Every third picture has a second class; two count for nothing in a class."""
    data = coloured(count, seed)
    labels = np.eye(3, dtype=np.float32)[data.labels]
    labels[::3, (data.labels[::3] + 1) % 3] = 1
    labels[5, 2], labels[7, 1] = -1, np.nan
    return replace(data, labels=labels)


@pytest.mark.parametrize("augmented", [False, True])
def test_several_classes_a_picture_are_learned_by_binary_cross_entropy(augmented):
    train, test = several_classes(60, 0), several_classes(30, 1)
    config = Config(base_learning_rates=(0.1, 1.0, 1e38), epochs=10, batch_size=16, augmented=augmented)
    outcome = evaluate(tiny_context(train=train, test=test, metric="map_11point"), config)
    assert outcome.primary == "map_11point" and outcome.metrics["map_11point"] > 0.6
    assert outcome.details["diverged_base_learning_rates"] == [1e38]
    assert outcome.details["validation_scores"]["1e+38"] is None
    assert json.dumps([outcome.metrics, outcome.details, outcome.config], allow_nan=False)
