import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from synclr_hf.captions import language_models
from synclr_hf.captions.background_lists import (
    MAX_DRAWS,
    BackgroundsConfig,
    write_backgrounds,
)
from synclr_hf.captions.places import REASONS, PlaceList, tidy
from synclr_hf.captions.stage import CaptionsConfig
from synclr_hf.captions.templates import shipped_examples
from synclr_hf.captions.words import stems
from synclr_hf.cli.main import main
from synclr_hf.concepts.backgrounds import read_backgrounds, with_backgrounds
from synclr_hf.concepts.banks import load_concepts
from synclr_hf.data.schemas import background_features
from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError
from synclr_hf.toyworld.backgrounds import BACKGROUNDS

ROOT = Path(__file__).parents[2]


def config(folder, **settings):
    return BackgroundsConfig(str(folder), **{"backgrounds_per_concept": 4, "rows_per_shard": 8, **settings})


def shards(folder):
    return {path.name: path.read_bytes() for path in sorted((Path(folder) / "data").iterdir())}


def counts(folder, name="counts"):
    notes = [json.loads(path.read_text()) for path in (Path(folder) / "shards").iterdir()]
    return sum((Counter(note[name]) for note in notes), Counter())


def listed(text, wanted=50, concept="owl"):
    found = PlaceList(concept, wanted)
    found.add(text)
    return found.places, dict(found.rejected)


def test_the_examples_are_lists_that_the_checks_keep_whole():
    examples = shipped_examples("places")
    assert len(examples) >= 10 and len({example.query for example in examples}) == len(examples)
    for example in examples:
        places, rejected = listed(example.caption, concept=example.query)
        assert rejected == {} and len(places) == 12, example
        assert example.caption == ", ".join(places) + "."


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("Reed bed, Lake shore.", ["reed bed", "lake shore"]),
        ("a reed bed; the lake shore; and in an old barn.", ["reed bed", "lake shore", "old barn"]),
        ("1. reed bed, 2. lake shore, 3) old barn.", ["reed bed", "lake shore", "old barn"]),
        ("1. reed bed 2. lake shore 3. barn.", ["reed bed", "lake shore", "barn"]),
        ("1) reed bed. 2) lake shore. 3) barn.", ["reed bed", "lake shore", "barn"]),
        ("St. Mark's square, barn, lake.", ["st. mark's square", "barn", "lake"]),
        ("barn, U.S. highway, lake. It is wide.", ["barn", "u.s. highway", "lake"]),
        ("barn, side of route 66. It is wide.", ["barn", "side of route 66"]),
        ("- reed bed, 'lake  shore', \"old barn\".", ["reed bed", "lake shore", "old barn"]),
        ("reed bed, barn. Owls are birds, and so on.", ["reed bed", "barn"]),
        ("market place, trash can, bus stop.", ["market place", "trash can", "bus stop"]),
        ("sunlit forêt, dog's basket, rock-strewn bank.", ["sunlit forêt", "dog's basket", "rock-strewn bank"]),
    ],
)
def test_lists_are_taken_apart(text, places):
    assert listed(text) == (places, {})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("reed bed, , barn.", "empty"),
        ("reed bed, ---, barn.", "empty"),
        ("reed bed, wren => hedge, barn.", "markup"),
        ("reed bed, <b>hedge</b>, barn.", "markup"),
        ("reed bed, ox, barn.", "too_short"),
        ("reed bed, the far end of a very long jetty, barn.", "too_long"),
        (f"reed bed, {'m' * 61}, barn.", "too_long"),
        ("reed bed, where it sleeps, barn.", "sentence"),
        ("reed bed, owls are seen there, barn.", "sentence"),
        ("reed bed, for example: hedge, barn.", "sentence"),
        ("reed bed, etc, barn.", "sentence"),
        ("reed bed, and many other places, barn.", "sentence"),
        ("reed bed, Owls, barn.", "concept_itself"),
        ("reed bed, the reed beds, barn.", "duplicate"),
        ("reed bed, barn, hed", "cut_off"),
    ],
)
def test_what_is_no_place_is_dropped_by_reason(text, reason):
    assert reason in REASONS
    assert listed(text) == (["reed bed", "barn"], {reason: 1})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I'm sorry, I can't help with that, friend.", "refusal"),
        ("Sure! Here are some places: reed bed, barn.", "chatter"),
        ("", "cut_off"),
        ("\x00\ufffd" * 100, "cut_off"),
    ],
)
def test_what_is_no_list_is_dropped_whole(text, reason):
    assert listed(text) == ([], {reason: 1})


def test_a_list_is_full_when_it_has_what_was_wanted():
    found = PlaceList("owl", 3)
    found.add("reed bed, barn.")
    assert not found.full
    found.add("barns, church tower, old oak, hedge.")
    assert found.full and found.places == ["reed bed", "barn", "church tower"] and found.rejected == {"duplicate": 1}
    assert tidy(" The  Old\tBarn ") == "old barn"


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_backgrounds(config(tmp_path_factory.mktemp("toy") / "backgrounds"), workers=1)


def test_the_toy_model_lists_backgrounds_for_every_thing_of_its_bank(toy):
    things = [concept for concept in load_concepts("toyworld") if concept.kind == "object"]
    rows = read_backgrounds(toy)
    assert rows.features == background_features()
    assert [(row["concept"], row["source"]) for row in rows] == [(thing.name, thing.source) for thing in things]
    assert len(shards(toy)) == -(-len(things) // 8)
    own = 0
    for number, (row, thing) in enumerate(zip(rows, things, strict=True)):
        assert row["seed"] == seed_for(0, "backgrounds", number) and row["language_model"] == "toyworld-grammar"
        assert len(row["backgrounds"]) == len({stems(place) for place in row["backgrounds"]}) == 4
        assert set(row["backgrounds"]) <= set(BACKGROUNDS)
        own += len(set(row["backgrounds"]) & set(thing.backgrounds))
    assert own > 0.85 * 4 * len(things), "most places are plausible"
    assert set(counts(toy)) <= {"duplicate"} and counts(toy, "cost")["seconds"] > 0
    assert "Without places" not in (toy / "README.md").read_text()
    bare = load_concepts("toyworld")
    given = with_backgrounds(bare, str(toy))
    assert {one.name: list(one.backgrounds) for one in given if one.kind == "object"} == {
        row["concept"]: row["backgrounds"] for row in rows
    }
    assert [one for one in given if one.kind != "object"] == [one for one in bare if one.kind != "object"]


@pytest.mark.parametrize("workers", [1, 2])
def test_same_seed_same_bytes_and_another_seed_other_places(tmp_path, toy, workers):
    assert shards(write_backgrounds(config(tmp_path / "again"), workers=workers)) == shards(toy)
    if workers == 1:
        assert shards(write_backgrounds(config(tmp_path / "other", seed=1), workers=1)) != shards(toy)


def test_killed_and_started_again_the_places_are_the_same(tmp_path, toy):
    folder = tmp_path / "backgrounds"
    program = (
        "import time\nfrom synclr_hf.captions import background_lists as stage\nfrom synclr_hf.data.shards import *\n"
        "ask = stage.BackgroundMaker._ask\n"
        "stage.BackgroundMaker._ask = lambda *given: time.sleep(0.05) or ask(*given)\n"
        f"stage.write_backgrounds(stage.BackgroundsConfig({str(folder)!r}, backgrounds_per_concept=4, "
        "rows_per_shard=8), workers=1)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list(folder.glob("shards/*.json"))) < 2:
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "it was still writing"
    assert 2 <= len(list(folder.glob("shards/*.json"))) < len(shards(toy))
    with pytest.raises(UserInputError, match=r"is not finished: \d of \d+ shards; finish it first: type synclr back"):
        read_backgrounds(folder)
    assert shards(write_backgrounds(config(folder), workers=1)) == shards(toy)


class Moody:
    """Knows owls; of wrens it says nothing usable; about rooks it changes its mind."""

    name = "moody"

    def __init__(self):
        self.usage = Counter()

    def complete(self, prompts, *, seeds, temperature, top_p, max_new_tokens, stop, report):
        assert stop == ("\n",) and (temperature, top_p, max_new_tokens) == (0.8, 0.9, 100)
        self.usage["completion_tokens"] += 10 * len(prompts)
        said = {
            "owl": " Old barn, church tower, hollow tree.\nwren => hedge.",
            "wren": " I'm sorry, but I cannot say.",
            "rook": " field, treetop, {}.",
        }
        queries = [prompt.splitlines()[-1].removesuffix(" =>") for prompt in prompts]
        assert all(len(prompt.splitlines()) == 4 for prompt in prompts)
        return [said[query].format("lawn" if seed % 4 else "park") for query, seed in zip(queries, seeds, strict=True)]


@pytest.fixture
def moody(monkeypatch):
    monkeypatch.setitem(language_models.LANGUAGE_MODELS, "moody", f"{__name__}:Moody")


def birds(folder, text="owl\nwren\nrook\n"):
    path = folder / "birds.txt"
    path.write_text(text)
    return str(path)


def test_lists_are_asked_for_until_enough_or_the_limit(tmp_path, moody):
    settings = {"concepts": birds(tmp_path), "language_model": "moody", "backgrounds_per_concept": 3}
    folder = write_backgrounds(config(tmp_path / "three", **settings))
    assert dict(zip(*(read_backgrounds(folder)[name] for name in ("concept", "backgrounds")), strict=True)) == {
        "owl": ["old barn", "church tower", "hollow tree"],
        "wren": [],
        "rook": ["field", "treetop", read_backgrounds(folder)["backgrounds"][2][2]],
    }
    assert counts(folder) == {"refusal": MAX_DRAWS, "concept_without_places": 1}
    assert counts(folder, "concepts") == {"wren": MAX_DRAWS}
    assert counts(folder, "cost")["completion_tokens"] == 10 * (MAX_DRAWS + 2)
    assert "1 concept without a usable place: wren." in (folder / "README.md").read_text()
    assert f"| refusal | {MAX_DRAWS} |" in (folder / "README.md").read_text()
    folder = write_backgrounds(config(tmp_path / "four", **{**settings, "backgrounds_per_concept": 4}))
    rook = read_backgrounds(folder)["backgrounds"][2]
    assert rook[:2] == ["field", "treetop"] and sorted(rook[2:]) == ["lawn", "park"], "another seed, another list"


def test_concepts_without_places_are_named_after_the_run(tmp_path, moody, capsys, caplog):
    arguments = ["--concepts", birds(tmp_path), "--language-model", "moody", "--output-dir", str(tmp_path / "set")]
    with pytest.raises(SystemExit) as end:
        main(["backgrounds", *arguments, "--backgrounds-per-concept", "3"])
    assert end.value.code == 0
    assert capsys.readouterr().out.splitlines() == [f"backgrounds: {tmp_path / 'set'}"]
    assert [record.getMessage() for record in caplog.records] == ["1 concept without a usable place: wren"]


def test_another_bank_is_refused_in_the_same_folder_and_another_weight_is_not(tmp_path, moody):
    (tmp_path / "birds.csv").write_text("owl,1\nrook,1\n")
    settings = {"concepts": str(tmp_path / "birds.csv"), "language_model": "moody", "backgrounds_per_concept": 2}
    before = shards(write_backgrounds(config(tmp_path / "set", **settings)))
    (tmp_path / "birds.csv").write_text("owl,5\nrook,1\n")
    assert shards(write_backgrounds(config(tmp_path / "set", **settings))) == before
    (tmp_path / "birds.csv").write_text("owl,1\nwren,1\n")
    with pytest.raises(UserInputError, match=r"another configuration: what --concepts holds \w+ there, \w+ now; type"):
        write_backgrounds(config(tmp_path / "set", **settings))


def test_scenes_and_textures_have_no_backgrounds(tmp_path):
    (tmp_path / "scenes.csv").write_text("harbor,1,scene\nwoven,1,texture\n")
    with pytest.raises(UserInputError, match=r"scenes.csv names no objects; captions of scenes and textures ask for"):
        write_backgrounds(config(tmp_path / "set", concepts=str(tmp_path / "scenes.csv")))
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"backgrounds_per_concept": 0},
            "--backgrounds-per-concept 0 cannot be used; allowed: a whole number, 1 or",
        ),
        ({"rows_per_shard": "many"}, "--rows-per-shard many cannot be used"),
        ({"seed": -1}, "--seed -1 cannot be used"),
        ({"temperature": -0.1}, "--temperature -0.1 cannot be used"),
        ({"top_p": 0}, "--top-p 0 cannot be used"),
        ({"max_new_tokens": 0}, "--max-new-tokens 0 cannot be used"),
        ({"batch_size": 1.5}, "--batch-size 1.5 cannot be used"),
        ({"dtype": "int4"}, "--dtype int4 cannot be used"),
    ],
)
def test_settings_that_cannot_be_used(settings, said):
    with pytest.raises(UserInputError) as caught:
        BackgroundsConfig("backgrounds", **settings)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("model", ["toy", "org/model"])
def test_the_concepts_are_those_of_the_captions_unless_others_are_named(model):
    assert BackgroundsConfig("x", language_model=model).concepts == CaptionsConfig("x", language_model=model).concepts
    assert BackgroundsConfig("x", concepts="birds.txt", language_model=model).concepts == "birds.txt"


def test_a_set_is_read_from_the_hub(hub, toy):
    files = {str(path.relative_to(toy)): path.read_bytes() for path in [toy / "README.md", *toy.glob("data/*")]}
    hub.add(f"{hub.user}/places", files, "dataset")
    said = hub.python(
        """
        import os
        from synclr_hf.concepts.backgrounds import with_backgrounds
        from synclr_hf.concepts.concept import Concept

        owls = with_backgrounds([Concept("owl", "mine"), Concept("elk", "mine")], f"{os.environ['ORG']}/places")
        print([len(one.backgrounds) for one in owls])
        """,
        ORG=hub.user,
    )
    assert said.splitlines()[-1] == "[4, 0]"
