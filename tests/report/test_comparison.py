"""Evaluations side by side: what may be compared stands in one row, toy numbers never beside others."""

import io
from dataclasses import replace

import pytest
from PIL import Image

from synclr_hf.cli.compare import main
from synclr_hf.evaluation.anchors import ANCHORS
from synclr_hf.evaluation.labelled.benchmarks import FINE_GRAINED
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


def test_toy_numbers_have_a_table_of_their_own_without_anchors():
    toy, real = compare([result(0.5, toy=True, whole=True, dataset="aircraft", protocol="logistic"), result(0.6)])
    assert (toy.is_toy, real.is_toy) == (True, False)
    assert toy.columns == real.columns == ["a"]
    assert "not to be compared" in toy.markdown() and "not to be compared" not in real.markdown()
    assert "| birds, knn (accuracy) | 60.0 [58.0, 61.0] |" in real.markdown()


def test_the_papers_numbers_stand_beside_whole_benchmarks_under_its_protocol_only():
    whole = {"dataset": "aircraft", "whole": True}
    (table,) = compare([result(0.5, protocol="logistic", **whole), result(0.4, protocol="knn", **whole)])
    logistic, knn = table.rows.values()
    assert set(knn) == {"a"}
    assert logistic["SynCLR ViT-B/16 (paper)"].value == 0.817 and logistic["SynCLR ViT-B/16 (paper)"].from_paper
    assert table.columns[0] == "a" and "not measured here" in table.markdown()
    (part,) = compare([result(0.5, protocol="logistic", dataset="aircraft")])
    assert part.columns == ["a"]


def test_averages_need_all_the_sets():
    nine = [result(0.1 * n, dataset=name, protocol="logistic", whole=True) for n, name in enumerate(FINE_GRAINED)]
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
    assert row["a"].interval == pytest.approx((0.55 - 12.706 * 0.05, 0.55 + 12.706 * 0.05))
    assert "settings differ between `a` and `b`: temperature 0.07 and 0.1" in table.markdown()
    assert "over the seeds: `a` 0, 1; `b` 0" in table.markdown()


def test_other_test_pictures_are_another_row_and_one_name_for_two_encoders_is_told_apart():
    other = result(0.3, fingerprints={"train": "t", "test": "others"})
    large = result(0.4)
    large = replace(large, model={**large.model, "fingerprint": "a2", "settings": {"image_size": 448}})
    (table,) = compare([result(0.5), other, large])
    assert list(table.rows) == [
        "birds, knn (accuracy, test pictures of bir)",
        "birds, knn (accuracy, test pictures others)",
    ]
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
