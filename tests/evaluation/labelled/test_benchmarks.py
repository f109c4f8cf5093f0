from dataclasses import replace

import numpy as np
import pytest
from tiny_data_sets import of_benchmark

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.anchors import ADE20K_NOTE, ANCHORS, FINE_GRAINED_AVERAGE
from synclr_hf.evaluation.labelled.benchmarks import BENCHMARKS, FINE_GRAINED, UNSEEN, benchmark
from synclr_hf.evaluation.labelled.data import load_evaluation_data
from synclr_hf.evaluation.protocols import PROTOCOLS
from synclr_hf.evaluation.suites import SUITES, suite


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_local_set_of_the_same_shape_is_read_as_the_benchmark(tmp_path, name):
    known = BENCHMARKS[name]
    data = load_evaluation_data(f"{name}={of_benchmark(known, tmp_path)}", seed=0)
    assert (data.benchmark, data.metric) == (name, known.metric)
    assert len(data.train.label_names) == known.num_classes
    assert (len(data.train), len(data.test)) == (6, 3)
    assert (data.validation is not None) == (known.validation is not None) == (known.num_validation is not None)
    assert not data.is_whole_benchmark and not data.is_toy and data.num_unseen_labels == 0
    if known.metric == "mean_iou":  # 0 counts for nothing, class 0 is stored as 1
        assert [np.unique(mask).tolist() for mask in data.test.masks] == [[255], [0], [1]]
    elif known.metric == "map_11point":
        assert data.test.labels.shape == (3, 20) and data.test.label_names[14] == "person"
        assert [np.flatnonzero(row).tolist() for row in data.test.labels] == [[0, 3], [1, 3], [2, 3]]
    else:
        assert data.train.labels.tolist() == [0, 0, 1, 1, 2, 2] and data.test.labels.tolist() == [0, 1, 2]


def test_only_a_set_with_all_pictures_and_classes_is_the_whole_benchmark(tmp_path, monkeypatch):
    tiny = replace(BENCHMARKS["flowers"], num_classes=3, num_train=6, num_validation=6, num_test=3)
    monkeypatch.setitem(BENCHMARKS, "flowers", tiny)
    copy = f"flowers={of_benchmark(tiny, tmp_path)}"
    assert load_evaluation_data(copy).is_whole_benchmark
    assert not load_evaluation_data(copy, max_test=2).is_whole_benchmark
    assert not load_evaluation_data(copy, metric="accuracy").is_whole_benchmark  # the paper's is another
    monkeypatch.setitem(BENCHMARKS, "flowers", replace(tiny, num_test=4))
    assert not load_evaluation_data(copy).is_whole_benchmark
    monkeypatch.setitem(BENCHMARKS, "flowers", replace(tiny, num_classes=4))
    assert not load_evaluation_data(copy).is_whole_benchmark


def test_metrics_and_sizes_are_those_of_the_paper():
    by_metric = {
        metric: {each.name for each in BENCHMARKS.values() if each.metric == metric}
        for metric in ("mean_per_class_accuracy", "map_11point", "mean_iou")
    }
    assert by_metric["mean_per_class_accuracy"] == {"aircraft", "pets", "caltech101", "flowers"}
    assert by_metric["map_11point"] == {"voc2007"} and by_metric["mean_iou"] == {"ade20k"}
    assert {*FINE_GRAINED, *UNSEEN, "imagenet", "ade20k"} == set(BENCHMARKS)
    for each in BENCHMARKS.values():
        assert each.citation and each.checked and each.licence
        assert (each.label is None) == (each.mask is not None) == (each.metric == "mean_iou")
        assert each.same_test_split or each.split_note


def test_the_suite_is_three_tables_of_the_paper():
    assert len(SUITES["paper"]) == 17 and suite("paper")[0] == ("imagenet", "linear", "Table 6")
    for entry in suite("paper"):
        needs = "masks" if BENCHMARKS[entry.benchmark].metric == "mean_iou" else "labels"
        assert PROTOCOLS[entry.protocol].needs == needs
    assert {entry.table for entry in suite("paper")} == {"Table 6", "Table 7", "Table 9"}
    with pytest.raises(UserInputError, match="unknown suite 'papers' .did you mean 'paper'.*--suite paper"):
        suite("papers")


def test_anchors_are_fractions_and_agree_with_their_averages():
    for model, numbers in ANCHORS.items():
        assert all(0.5 < anchor.value < 1 for anchor in numbers.values())
        if FINE_GRAINED_AVERAGE in numbers:
            mean = np.mean([numbers[name].value for name in FINE_GRAINED])
            assert abs(mean - numbers[FINE_GRAINED_AVERAGE].value) < 0.0006, model
    assert ANCHORS["SynCLR ViT-B/16"]["imagenet"].value == 0.807
    assert ANCHORS["SynCLR ViT-B/16"]["ade20k"].note == ADE20K_NOTE


def test_names_that_are_none():
    with pytest.raises(UserInputError, match="unknown benchmark 'aircrft' .did you mean 'aircraft'.*--dataset FOLDER"):
        load_evaluation_data("aircrft")
    with pytest.raises(UserInputError, match="unknown benchmark 'carz' .did you mean 'cars'"):
        load_evaluation_data("carz=some/where")
    with pytest.raises(UserInputError, match="unknown benchmark ''; allowed: imagenet"):
        load_evaluation_data("")
    with pytest.raises(UserInputError, match="no data set at './mnist'; allowed: an existing folder"):
        load_evaluation_data("./mnist")
    with pytest.raises(UserInputError, match="no copy of 'kitti' with a train split.*--dataset kitti=FOLDER"):
        load_evaluation_data("kitti")
    with pytest.raises(UserInputError, match="--eval NAME=FOLDER"):
        benchmark("x", "--eval")
