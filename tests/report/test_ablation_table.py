"""The tables of an ablation, against numbers computed by hand."""

from synclr_hf.evaluation.intervals import seed_interval
from synclr_hf.report.ablation import ablation_text

SCORES = {
    "untrained": {0: {"knn_top1": 0.10, "linear_top1": 0.10}, 1: {"knn_top1": 0.12, "linear_top1": 0.10}},
    "+EMA": {0: {"knn_top1": 0.30, "linear_top1": 0.40}, 1: {"knn_top1": 0.34, "linear_top1": 0.40}},
    "+EMA +iBOT +multi-crop": {0: {"knn_top1": 0.33, "linear_top1": 0.39}, 1: {"knn_top1": 0.36, "linear_top1": 0.41}},
    "+EMA +iBOT": {0: {"knn_top1": 0.32, "linear_top1": 0.40}},
}


def test_t_interval_of_seeds():
    low, high = seed_interval([1.0, 2.0, 3.0])  # mean 2, deviation 1, t 4.303: 2 +- 4.303 / sqrt(3)
    assert (round(low, 3), round(high, 3)) == (-0.484, 4.484)
    assert seed_interval([1.0]) is None and seed_interval([2.0, 2.0]) == (2.0, 2.0)


def test_means_differences_and_intervals():
    steps = {"+EMA": 1200, "+EMA +iBOT +multi-crop": 850}
    text = ablation_text(SCORES, steps, equal="compute", test_pictures=4000, chance=1 / 72)
    lines = text.splitlines()
    assert lines[0].startswith("Equal compute; mean over seeds 0, 1 [95 % t interval over seeds]; 4,000 held-out")
    assert "| +EMA | 1,200 | 32.0 % [6.6, 57.4] | 40.0 % [40.0, 40.0] |" in lines
    assert "| untrained | 0 | 11.0 % [-1.7, 23.7] | 10.0 % [10.0, 10.0] |" in lines
    # paired: +3 and +2 points; one seed in common: no interval; the row that nobody compares with has no difference
    assert "| (+EMA +iBOT +multi-crop) - (+EMA +iBOT) | +1.2 | +1.0 | -1.0 |" in lines
    assert "| (+EMA +iBOT) - (+EMA) | +0.9 | +2.0 | +0.0 |" in lines
    assert "| +EMA +iBOT (1 of 2 seeds) | 0 | 32.0 % | 40.0 % |" in lines
    assert not [line for line in lines if "SimCLR" in line or "untrained)" in line]
