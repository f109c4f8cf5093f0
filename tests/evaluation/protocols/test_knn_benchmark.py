"""The part `knn` of the benchmark in miniature."""

import json
from pathlib import Path

import synclr_hf

SCRIPTS = Path(synclr_hf.__file__).parents[1] / "scripts" / "benchmarks"


def test_the_documented_line_in_miniature(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(SCRIPTS)
    import evaluation  # the process that is measured finds it by the same path

    less = ["--rows", "3000", "--queries", "50", "--features", "16", "--classes", "7"]
    evaluation.main(["knn", *less, "--json", str(tmp_path / "new" / "knn.json")])
    found = json.loads((tmp_path / "new" / "knn.json").read_text())
    assert json.loads(capsys.readouterr().out) == found
    assert found["equal_to_float64"] and found["votes_of_the_nearest_are_its_class"]
    assert found["file_gib"] * 2**30 == 3000 * 16 * 2
    assert 0.05 < found["peak_own_gib"] < found["peak_gib"] < 2 and found["seconds"] > 0
    assert found["settings"]["rows"] == 3000 and found["machine"]["threads"] >= 1
