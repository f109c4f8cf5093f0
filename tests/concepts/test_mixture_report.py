"""What a mixture asks for, as rows and as the command prints them."""

import time

import pytest

from synclr_hf.cli.main import main
from synclr_hf.concepts.banks import load_concepts
from synclr_hf.concepts.concept import Concept
from synclr_hf.concepts.mixture_report import draw_prompts, mixture_report

CONCEPTS = (
    Concept("owl", "birds", backgrounds=("forest", "barn"), weight=6),
    Concept("wren", "birds", weight=2),
    Concept("harbor", "places", kind="scene", weight=2),
    Concept("comet", "rare", weight=1e-9),
)


def test_rows_by_source():
    birds, places, rare, everything = mixture_report(CONCEPTS, 8000, seed=1)
    assert [row.source for row in (birds, places, rare, everything)] == ["birds", "places", "rare", "all"]
    assert [row.concepts for row in (birds, places, rare, everything)] == [2, 1, 1, 4]
    assert birds.wanted == pytest.approx(0.8) and birds.drawn == pytest.approx(0.8, abs=0.02)
    assert birds.templates["background"] == pytest.approx(0.45 * 0.75, abs=0.03)
    assert birds.without_backgrounds == 0.5 and places.without_backgrounds == 0.0
    assert places.templates == {"concept": 1.0, "relation": 0.0, "background": 0.0}
    assert [name for name, _ in birds.most_drawn] == ["owl", "wren"]
    assert (rare.drawn, rare.templates, rare.most_drawn) == (0.0, {}, ())
    assert everything.wanted == everything.drawn == 1.0 and everything.without_backgrounds == 0.5
    assert sum(count for _, count in everything.most_drawn) == 8000


def test_the_seed_decides():
    assert mixture_report(CONCEPTS, 500, seed=3) == mixture_report(CONCEPTS, 500, seed=3)
    assert mixture_report(CONCEPTS, 500, seed=3) != mixture_report(CONCEPTS, 500, seed=4)


def test_a_name_of_two_sources_counts_in_each():
    rows = mixture_report((Concept("owl", "a"), Concept("owl", "b", weight=3)), 4000, seed=0)
    assert rows[1].drawn == pytest.approx(0.75, abs=0.03) and rows[2].most_drawn == (("owl", 4000),)


def test_drawing_costs_little():
    concepts = load_concepts("synclr")
    started = time.process_time()
    assert sum(1 for _ in draw_prompts(concepts, 10_000, seed=0)) == 10_000
    assert (time.process_time() - started) / 10_000 < 60e-6  # 9 microseconds alone on a machine


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["concepts", *arguments])
    output, errors = capsys.readouterr()
    return ended.value.code, output, errors


def test_the_command(capsys, tmp_path):
    path = tmp_path / "birds.csv"
    path.write_text("owl,3\nwren,1\nOwl,1\n")
    code, output, _ = run(capsys, str(path), "--draws", "2000", "--seed", "5")
    heading, birds, everything, *rest = output.splitlines()
    assert code == 0 and heading.split()[:4] == ["source", "concepts", "wanted", "drawn"]
    assert birds.split()[:4] == ["birds", "2", "100.00%", "100.00%"] and birds.endswith("owl, wren")
    assert everything.startswith("all") and "birds: names left out, as they come again or cannot be used: 1" in rest
    assert sum(line.endswith("[birds]") for line in rest) == 10
    _, with_places, _ = run(capsys, str(path), "--draws", "2000", "--backgrounds", "bird")
    assert " 0.0% " in birds and " 0.0%  owl" in with_places and "100.0%  owl" in birds


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "unknown concept bank 'nonsense'; allowed: toyworld, synclr, imagenet1k"),
        (["dtd", "--draws", "0"], "--draws 0 cannot be used"),
        (["dtd", "--seed", "-1"], "--seed -1 cannot be used"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, said):
    code, output, errors = run(capsys, *arguments)
    assert code == 2 and output == "" and said in errors and errors.count("\n") == 1
