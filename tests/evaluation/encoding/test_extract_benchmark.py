"""The measurement of extraction in miniature."""

import argparse
import importlib.util
from pathlib import Path

import pytest

import synclr_hf

SCRIPT = Path(synclr_hf.__file__).parent.parent / "scripts" / "benchmarks" / "evaluation.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("evaluation_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_extraction_beside_the_bare_forward_in_miniature(benchmark):
    parser = argparse.ArgumentParser()
    benchmark.extract_options(parser)
    less = "--pictures 5 --batch-size 2 --repeats 2 --layers 1 --width 64 --image-size 32".split()
    found = benchmark.extract(parser.parse_args(less))
    assert set(found["pictures_a_second"]) == {"bare", "extraction", "decoding"}
    for rate in found["pictures_a_second"].values():
        assert 0 < rate["range"][0] <= rate["median"] <= rate["range"][1]
    assert found["largest_difference"] < 1e-5  # both described the same pictures
    low, high = found["share_of_bare_speed"]["range"]
    assert 0 < low <= found["share_of_bare_speed"]["median"] <= high
    assert 20 < found["kilobytes_a_file"] < 200 and found["settings"]["pictures"] == 5
