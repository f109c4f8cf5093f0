"""The promise of the quickstart, kept by three full runs; half an hour on two cores."""

import json

import pytest

SEEDS = (0, 1, 2)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_trained_beats_untrained_by_15_points_over_three_seeds(synclr, environment, tmp_path):
    environment.pop("OMP_NUM_THREADS", None)
    reports = []
    for seed in SEEDS:
        folder = tmp_path / str(seed)
        done = synclr("run", "toyworld", "--seed", seed, "--output-dir", folder, timeout=1200)
        assert done.returncode == 0, done.stderr[-3000:]
        reports.append(json.loads((folder / "report.json").read_text()))
    for report in reports:
        assert sum(report["seconds"].values()) <= 600
        assert report["peak_memory_gib"] <= 4
    accuracies = [report["evaluation"]["knn_top1"] for report in reports]
    gain = sum(accuracy["trained"] - accuracy["untrained"] for accuracy in accuracies) / len(SEEDS)
    assert gain >= 0.15, accuracies
    assert max(accuracy["untrained"] for accuracy in accuracies) < 0.6, "the toy world is too easy"
