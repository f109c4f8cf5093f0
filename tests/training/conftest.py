"""A model and a set of pictures small enough to train in a second."""

import pytest
from tiny_pretraining import build_dataset, build_model


@pytest.fixture
def model():
    return build_model()


@pytest.fixture
def dataset():
    return build_dataset()
