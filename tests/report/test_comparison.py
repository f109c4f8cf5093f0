"""Evaluations side by side: what may be compared stands in one row, toy numbers never beside others."""

import io
from dataclasses import replace

import pytest
from PIL import Image

from synclr_hf.cli.compare import main
from synclr_hf.evaluation.anchors import ANCHORS
from synclr_hf.evaluation.labelled.benchmarks import BENCHMARKS, FINE_GRAINED
from synclr_hf.evaluation.results import EvaluationResult
from synclr_hf.report.comparison import compare


def result(value, model="a", dataset="birds", protocol="knn", seed=0, config=None, toy=False, whole=False, **changes):
    facts = {"name": dataset, "benchmark": dataset if whole else None, "is_whole_benchmark": whole, "is_toy": toy}
    facts |= {"metric": "accuracy", "num_classes": 2, "num_pictures": {"train": 9, "test": 9}}
    facts |= {"fingerprints": {"train": "t", "test": f"of {dataset}"}, **changes}
    settings = {"image_size": 224}
    return EvaluationResult(
        model={"name": model, "weights": "w", "fingerprint": model, "architecture": "vit", "settings": settings},
        dataset=facts,
        protocol=protocol,
        primary="accuracy",
        metrics={"accuracy": value},
        intervals={"accuracy": [value - 0.02, value + 0.01]},
        config=config or {"temperature": 0.07},
        details={},
        seed=seed,
        question=f"{model}{dataset}{protocol}{seed}",
        seconds=1.0,
        machine={},
        versions={},
    )


def in_own_metric(one):
    """The same in the metric of its benchmark."""
    name = BENCHMARKS[one.dataset["name"]].metric
    return replace(one, primary=name, metrics={name: one.value}, intervals={name: one.intervals["accuracy"]})


def test_toy_numbers_have_a_table_of_their_own_without_anchors():
    toy, real = compare([result(0.5, toy=True, whole=True, dataset="aircraft", protocol="logistic"), result(0.6)])
    assert (toy.is_toy, real.is_toy) == (True, False)
    assert toy.columns == real.columns == ["a"]
    assert "not to be compared" in toy.markdown() and "not to be compared" not in real.markdown()
    assert "| birds, knn (accuracy) | 60.0 [58.0, 61.0] |" in real.markdown()


def test_the_papers_numbers_stand_beside_whole_benchmarks_under_its_protocol_only():
    whole = {"dataset": "aircraft", "whole": True}
    runs = [result(0.5, protocol="logistic", **whole), result(0.4, protocol="knn", **whole)]
    (table,) = compare([in_own_metric(run) for run in runs])
    logistic, knn = table.rows.values()
    assert set(knn) == {"a"}
    assert logistic["SynCLR ViT-B/16 (paper)"].value == 0.817 and logistic["SynCLR ViT-B/16 (paper)"].from_paper
    assert table.columns[0] == "a" and "not measured here" in table.markdown()
    assert "not the paper's" not in table.markdown()
    (other,) = compare([in_own_metric(result(0.5, protocol="logistic", config={"max_iterations": 5}, **whole))])
    assert "settings of `a` that are not the paper's: max_iterations 5." in other.markdown()
    (part,) = compare([result(0.5, protocol="logistic", dataset="aircraft")])
    assert part.columns == ["a"]


def test_anchors_stand_beside_the_benchmarks_own_metric_and_whole_members_only():
    whole = {"dataset": "aircraft", "whole": True, "protocol": "logistic"}
    assert compare([result(0.5, **whole)])[0].columns == ["a"]  # the paper's is the mean per class
    part = result(0.9, "b", **whole, is_whole_benchmark=False)
    for pair in ([result(0.5, **whole), part], [part, result(0.5, **whole)]):
        (table,) = compare([in_own_metric(one) for one in pair])
        by_encoder = {"b" if "b" in cells else "a": (name, cells) for name, cells in table.rows.items()}
        assert by_encoder["b"] == (
            "aircraft, logistic (mean per-class accuracy, part of the benchmark)",
            {"b": by_encoder["b"][1]["b"]},
        )
        assert "SynCLR ViT-B/16 (paper)" in by_encoder["a"][1]


def test_results_of_one_encoder_with_several_settings_have_a_row_each():
    one, two = result(0.5), result(0.6, config={"temperature": 0.1})
    other = result(0.7, "b", config={"temperature": 0.1})
    (table,) = compare([one, two, other])
    cold, warm = (
        table.rows["birds, knn (accuracy, temperature 0.07)"],
        table.rows["birds, knn (accuracy, temperature 0.1)"],
    )
    assert {name: cell.value for name, cell in cold.items()} == {"a": 0.5}
    assert {name: cell.value for name, cell in warm.items()} == {"a": 0.6, "b": 0.7}
    fewer = result(0.4, seed=1, num_pictures={"train": 5, "test": 9}, fingerprints={"train": "u", "test": "of birds"})
    (table,) = compare([one, fewer])  # no mean over seeds of what is no repetition
    assert [cells["a"].value for cells in table.rows.values()] == [0.5, 0.4]
    assert list(table.rows)[1] == "birds, knn (accuracy, train 5)"
    assert Image.open(io.BytesIO(table.picture())).width == 1200
    others = result(0.4, fingerprints={"train": "u", "test": "of birds"})
    assert "birds, knn (accuracy, train pictures " in list(compare([one, others])[0].rows)[1]
    drawn = replace(others, seed=1, config={"temperature": 0.07, "num_validation": 3})
    (cell,) = compare([one, drawn])[0].rows["birds, knn (accuracy)"].values()
    assert cell.num_seeds == 2 and cell.value == pytest.approx(0.45)


def test_untrained_encoders_of_several_seeds_are_one_column():
    runs = [result(0.5, "untrained:a", seed=0), result(0.6, "untrained:a", seed=1)]
    runs = [replace(run, model={**run.model, "weights": None, "fingerprint": str(run.seed)}) for run in runs]
    (table,) = compare(runs)
    assert table.rows["birds, knn (accuracy)"]["untrained:a"].num_seeds == 2


def test_one_encoder_by_two_names_is_one_column_by_the_first():
    moved = result(0.6, "elsewhere", dataset="flowers")
    moved = replace(moved, model={**moved.model, "fingerprint": "a"})
    assert compare([result(0.5), moved])[0].columns == ["a"]


def test_averages_need_all_the_sets():
    nine = [result(0.1 * n, dataset=name, protocol="logistic", whole=True) for n, name in enumerate(FINE_GRAINED)]
    nine = [in_own_metric(one) for one in nine]
    (table,) = compare(nine)
    row = table.rows["average of the nine fine-grained sets, logistic"]
    assert row["a"].value == pytest.approx(0.4)
    assert row["CLIP ViT-B/16 (paper)"].value == ANCHORS["CLIP ViT-B/16"]["fine_grained_average"].value
    (less,) = compare(nine[1:])
    assert not any("average" in name for name in less.rows)


def test_seeds_become_their_mean_and_differences_are_told():
    runs = [result(0.5, seed=0), result(0.6, seed=1), result(0.7, "b", config={"temperature": 0.1})]
    (table,) = compare(runs)
    row = table.rows["birds, knn (accuracy)"]
    assert row["a"].value == pytest.approx(0.55) and row["a"].num_seeds == 2
    assert row["a"].interval == (0.0, 1.0)  # two seeds tell little: 12.706 standard errors
    same = compare([result(0.5, seed=seed) for seed in range(3)])[0].rows["birds, knn (accuracy)"]["a"]
    assert same.interval == pytest.approx((0.485, 0.515))  # the bootstrap's, though the seeds agree
    assert "settings differ between `a` and `b`: temperature 0.07 and 0.1" in table.markdown()
    assert "mean over the seeds `a` 0, 1; `b` 0" in table.markdown()


def test_other_test_pictures_are_another_row_and_one_name_for_two_encoders_is_told_apart():
    other = result(0.3, fingerprints={"train": "t", "test": "of birds and more"})
    large = result(0.4)
    large = replace(large, model={**large.model, "fingerprint": "a2", "settings": {"image_size": 448}})
    (table,) = compare([result(0.5), other, large])
    assert len(table.rows) == 2 and all("birds, knn (accuracy, test pictures " in name for name in table.rows)
    assert table.columns == ["a (image_size=224)", "a (image_size=448)"]


def test_the_command_prints_and_writes_table_and_plots(tmp_path, capsys):
    for number, one in enumerate([result(0.5), result(0.6, "org/b"), result(0.7, toy=True)]):
        one.write(tmp_path / f"{number}.json")
    main([str(tmp_path), "--output", str(tmp_path / "table")])
    printed = capsys.readouterr().out
    assert (tmp_path / "table" / "comparison.md").read_text() in printed
    for name in ("comparison.png", "comparison_toy.png"):
        picture = Image.open(io.BytesIO((tmp_path / "table" / name).read_bytes()))
        assert picture.width == 1200 and name in printed
