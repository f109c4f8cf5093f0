"""The documented measurements in miniature."""

import json
from pathlib import Path

import pytest

import synclr_hf

SCRIPTS = Path(synclr_hf.__file__).parents[1] / "scripts" / "benchmarks"


@pytest.fixture
def measured(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(SCRIPTS)
    import evaluation  # the process that `knn` measures finds it by the same path

    def measure(*arguments):
        evaluation.main([*arguments, "--json", str(tmp_path / "new" / "found.json")])
        found = json.loads((tmp_path / "new" / "found.json").read_text())
        assert json.loads(capsys.readouterr().out) == found
        assert found["machine"]["cores"] and found["versions"]["torch"]
        return found

    return measure


def test_extraction_beside_the_bare_forward(measured):
    less = "--pictures 5 --batch-size 2 --repeats 2 --layers 1 --width 64 --image-size 32".split()
    found = measured("extract", *less)
    assert set(found["pictures_a_second"]) == {"bare", "extraction", "decoding"}
    for rate in found["pictures_a_second"].values():
        assert 0 < rate["range"][0] <= rate["median"] <= rate["range"][1]
    assert found["largest_difference"] < 1e-5  # both described the same pictures


def test_neighbours_in_a_file(measured):
    found = measured("knn", "--rows", "3000", "--queries", "50", "--features", "16", "--classes", "7")
    assert found["equal_to_float64"] and found["votes_of_the_nearest_are_its_class"]
    assert found["file_gib"] * 2**30 == 3000 * 16 * 2
    assert 0.05 < found["peak_own_gib"] < found["peak_gib"] < 2 and found["seconds"] > 0
    assert found["settings"]["rows"] == 3000 and found["machine"]["threads"] >= 1


def test_logistic_regression_beside_scikit_learn(measured):
    sizes = "--rows 60 --width 12 --classes 3 --values 4 --threads 1 --references float64 float32-warm"
    found = measured("logistic", *sizes.split())
    assert found["l2_values"] == 4 and found["sizes"]["fit"] == [60, 12]
    for reference in ("float64", "float32-warm"):
        assert found[reference]["best_l2"] == found["ours"]["best_l2"]
        assert found[reference]["test_accuracy"] == pytest.approx(found["ours"]["test_accuracy"], abs=0.05)
        assert found[reference]["times_our_seconds"] > 0
    assert found["ours"]["objective_above_lowest"]["largest"] < 1e-6
