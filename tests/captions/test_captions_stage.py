import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from datasets import load_dataset

from synclr_hf.captions import language_models
from synclr_hf.captions.filters import CaptionFilters
from synclr_hf.captions.maker import MAX_ATTEMPTS, TRIES_PER_CONCEPT
from synclr_hf.captions.stage import CaptionsConfig, write_captions
from synclr_hf.captions.templates import build_prompt
from synclr_hf.captions.writer import first_line
from synclr_hf.concepts.banks import load_concepts
from synclr_hf.concepts.mixture import ConceptMixture
from synclr_hf.data.cards import UNFINISHED
from synclr_hf.data.reading import read_captions
from synclr_hf.data.schemas import caption_features
from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError

ROOT = Path(__file__).parents[2]


def config(folder, **settings):
    return CaptionsConfig(str(folder), **{"num_captions": 300, "rows_per_shard": 64, **settings})


def shards(folder):
    return {path.name: path.read_bytes() for path in sorted((Path(folder) / "data").iterdir())}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_captions(config(tmp_path_factory.mktemp("toy") / "captions"), workers=1)


def test_rows_follow_the_schema_and_sit_in_their_slots(toy):
    rows = load_dataset(str(toy), split="train")
    assert rows.features == caption_features()
    assert rows["caption_id"][:] == list(range(300))
    assert len(shards(toy)) == 5
    assert set(rows["source"]) == {"toyworld"} and len(set(rows["language_model"])) == 1


def test_every_row_can_be_drawn_again_from_its_seed(toy):
    mixture = ConceptMixture(load_concepts("toyworld"))
    for row in read_captions(toy):
        turns = range(0, MAX_ATTEMPTS // TRIES_PER_CONCEPT)
        seeds = {seed_for(0, "caption", row["caption_id"], attempt): attempt for attempt in range(MAX_ATTEMPTS)}
        turn = seeds[row["seed"]] // TRIES_PER_CONCEPT
        assert turn in turns
        wanted = mixture.sample(seed_for(0, "concept", row["caption_id"], turn))
        assert (wanted.concept.name, wanted.template) == (row["concept"], row["template"])
        assert (wanted.background, wanted.relation) == (row["background"], row["relation"])
        prompt = build_prompt(wanted, seed_for(row["seed"], "examples"))
        assert CaptionFilters().first_reason(row["caption"], prompt, row["concept"], set()) is None
    model = language_models.find_language_model("toy").load()
    sampling = {"temperature": 0.8, "top_p": 0.9, "max_new_tokens": 100, "stop": ("\n",)}
    assert model.complete([prompt.text], seeds=[row["seed"]], **sampling)[0].strip() == row["caption"]


def test_captions_are_different_and_spread_over_the_bank(toy):
    rows = read_captions(toy)
    assert len(set(rows["caption"])) >= 295
    assert len(set(rows["concept"])) >= 40
    shares = {template: rows["template"][:].count(template) / 300 for template in ("relation", "background")}
    assert 0.03 < shares["relation"] < 0.2 and 0.25 < shares["background"] < 0.6


@pytest.mark.parametrize(("workers", "batch_size"), [(2, 64), (1, 7)])
def test_same_seed_same_bytes(tmp_path, toy, workers, batch_size):
    again = write_captions(config(tmp_path / "captions", batch_size=batch_size), workers=workers)
    assert shards(again) == shards(toy)


def test_another_seed_other_captions(tmp_path, toy):
    other = write_captions(config(tmp_path / "captions", seed=1), workers=1)
    assert len(set(read_captions(other)["caption"]) & set(read_captions(toy)["caption"])) < 10


@pytest.mark.parametrize(("workers", "finished"), [(1, 2)])
def test_killed_and_started_again_the_captions_are_the_same(tmp_path, toy, workers, finished):
    folder = tmp_path / "captions"
    program = (
        "from synclr_hf.captions.stage import *\nif __name__ == '__main__':\n"
        f"  write_captions(CaptionsConfig({str(folder)!r}, num_captions=300, rows_per_shard=64), workers={workers})"
    )
    (tmp_path / "program.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, tmp_path / "program.py"], env=environment, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list(folder.glob("shards/*.json"))) < finished:
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "it was killed, and had not ended before"
    assert UNFINISHED in (folder / "README.md").read_text()
    assert shards(write_captions(config(folder), workers=1)) == shards(toy)


class MoodyModel:
    """Writes a good caption only in about one of three draws; says its mood by the seed."""

    name = "moody"

    def complete(self, prompts, *, seeds, temperature, top_p, max_new_tokens, stop, report):
        assert stop == ("\n",) and (temperature, top_p, max_new_tokens) == (0.8, 0.9, 100)
        texts = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            query = prompt.splitlines()[-1].removesuffix(" =>")
            good = f" A {query} with the number {seed}.\nnext line => of a base model"
            bad = [
                "",
                f" <b>{query}</b> it is",
                " A thing of no name.",
                f" {query} " * 80,
                "Always the same number 7.",
            ]
            texts.append(good if seed % 3 == 0 else bad[seed % 5])
            report(1)
        return texts


class HopelessModel(MoodyModel):
    def complete(self, prompts, **options):
        return ["" for _ in prompts]


@pytest.fixture
def other_models(monkeypatch):
    monkeypatch.setitem(language_models.LANGUAGE_MODELS, "moody", f"{__name__}:MoodyModel")
    monkeypatch.setitem(language_models.LANGUAGE_MODELS, "hopeless", f"{__name__}:HopelessModel")


def birds(folder, text="owl\nwren\n"):
    path = folder / "birds.txt"
    path.write_text(text)
    return str(path)


def test_rejected_draws_are_drawn_again_in_their_slot_and_counted(tmp_path, other_models):
    settings = {"concepts": birds(tmp_path), "language_model": "moody", "num_captions": 200}
    folder = write_captions(config(tmp_path / "captions", **settings))
    rows = read_captions(folder)
    assert rows["caption_id"][:] == list(range(200))
    assert all(row["seed"] % 3 == 0 and row["caption"].endswith(f"number {row['seed']}.") for row in rows)
    for row in rows:
        attempts = [seed_for(0, "caption", row["caption_id"], attempt) for attempt in range(50)]
        assert next(seed for seed in attempts if seed % 3 == 0) == row["seed"], "the first good attempt counts"
    notes = [json.loads(path.read_text()) for path in (folder / "shards").iterdir()]
    counts = {name: sum(note["counts"].get(name, 0) for note in notes) for name in notes[0]["counts"]}
    assert set(counts) == {"empty", "markup", "lacks_concept", "too_long", "no_background_list"}
    assert sum(counts.values()) - counts["no_background_list"] > 200
    assert f"| too_long | {counts['too_long']} |" in (folder / "README.md").read_text()


def test_duplicates_within_a_shard_are_redrawn(tmp_path, monkeypatch):
    class Parrot(MoodyModel):
        def complete(self, prompts, *, seeds, **options):
            return [f"An owl or a wren number {seed % 40}." for seed in seeds]

    monkeypatch.setattr(f"{__name__}.MoodyModel", Parrot)
    monkeypatch.setitem(language_models.LANGUAGE_MODELS, "moody", f"{__name__}:MoodyModel")
    settings = {"concepts": birds(tmp_path), "language_model": "moody", "num_captions": 40, "rows_per_shard": 20}
    folder = write_captions(config(tmp_path / "captions", **settings))
    captions = read_captions(folder)["caption"][:]
    assert len(set(captions[:20])) == len(set(captions[20:])) == 20
    assert len(set(captions)) < 40, "across shards they stay: that is another pass"
    assert json.loads((folder / "shards/00000.json").read_text())["counts"]["duplicate"] > 0


def test_a_model_without_hope_is_given_up(tmp_path, other_models):
    with pytest.raises(UserInputError) as caught:
        write_captions(config(tmp_path / "captions", language_model="hopeless", concepts=birds(tmp_path, "owl\n")))
    assert str(caught.value).startswith(
        "'moody' wrote no caption that the filters keep in 128 draws; last reasons: empty (64); "
        "concepts: owl (64); the last one: ''; type another --output-dir"
    )


def test_a_changed_concept_file_is_refused(tmp_path, other_models):
    settings = {"language_model": "moody", "num_captions": 5}
    write_captions(config(tmp_path / "captions", concepts=birds(tmp_path), **settings))
    changed = birds(tmp_path, "owl\nwren\nrook\n")
    with pytest.raises(
        UserInputError, match=r"another configuration: what --concepts and --backgrounds hold \w+ there, \w+ now; type"
    ):
        write_captions(config(tmp_path / "captions", concepts=changed, **settings))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_captions": 0}, "--num-captions 0 cannot be used; allowed: a whole number, 1 or more"),
        ({"rows_per_shard": "many"}, "--rows-per-shard many cannot be used"),
        ({"seed": -1}, "--seed -1 cannot be used"),
        ({"temperature": -0.1}, "--temperature -0.1 cannot be used"),
        ({"top_p": 0}, "--top-p 0 cannot be used; allowed: a number, above 0, up to 1; type --top-p 0.9"),
        ({"max_new_tokens": 0}, "--max-new-tokens 0 cannot be used"),
        ({"batch_size": 1.5}, "--batch-size 1.5 cannot be used"),
    ],
)
def test_settings_that_cannot_be_used(settings, said):
    with pytest.raises(UserInputError) as caught:
        CaptionsConfig("captions", **settings)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("settings", [{"language_model": "tony"}, {"concepts": "toywrld"}])
def test_unknown_names_leave_no_folder_behind(tmp_path, settings):
    with pytest.raises(UserInputError, match="did you mean 'toy"):
        write_captions(config(tmp_path / "captions", **settings))
    assert not (tmp_path / "captions").exists()


def test_the_card_says_how_to_make_it_again(toy):
    card = (toy / "README.md").read_text()
    assert f"synclr captions --output-dir {toy} --concepts toyworld --num-captions 300 --rows-per-shard 64" in card
    assert "license: apache-2.0" in card and "300 rows" in card


def notes(folder):
    return [json.loads(path.read_text()) for path in sorted((folder / "shards").iterdir())]


def rejects(folder):
    return [
        json.loads(line) for path in sorted((folder / "rejects").iterdir()) for line in path.read_text().splitlines()
    ]


def test_rejects_are_kept_on_request_and_no_part_of_the_set(tmp_path, other_models):
    settings = {"concepts": birds(tmp_path), "language_model": "moody", "num_captions": 100}
    plain = write_captions(config(tmp_path / "plain", **settings))
    folder = write_captions(config(tmp_path / "kept", keep_rejects=True, **settings))
    assert shards(folder) == shards(plain) and not (plain / "rejects").exists()
    kept = rejects(folder)
    reasons = Counter(reject["reason"] for reject in kept)
    told = sum((Counter(note["counts"]) for note in notes(folder)), Counter())
    assert reasons == Counter({name: count for name, count in told.items() if name != "no_background_list"})
    assert Counter(reject["concept"] for reject in kept) == sum(
        (Counter(note["concepts"]) for note in notes(folder)), Counter()
    )
    for reject in kept:
        assert reject["seed"] == seed_for(0, "caption", reject["caption_id"], reject["attempt"])
    assert load_dataset(str(folder), split="train").features == caption_features()


def test_killed_and_started_again_the_rejects_are_the_same(tmp_path, other_models):
    settings = {"concepts": birds(tmp_path), "language_model": "moody", "num_captions": 100, "keep_rejects": True}
    folder = write_captions(config(tmp_path / "captions", **settings))
    before = rejects(folder)
    (folder / "shards/00001.json").unlink()  # a kill between the shard and its note
    assert rejects(write_captions(config(folder, **settings))) == before


def test_a_concept_that_every_filter_rejects_is_named_after_the_run(tmp_path, other_models, caplog):
    (tmp_path / "unsafe.txt").write_text("wren\n")
    settings = {"concepts": birds(tmp_path), "language_model": "moody", "num_captions": 50}
    folder = write_captions(config(tmp_path / "captions", unsafe_words=tmp_path / "unsafe.txt", **settings))
    assert set(read_captions(folder)["concept"]) == {"owl"}
    assert [record.getMessage() for record in caplog.records] == ["all draws of 1 concept were rejected: wren"]
    assert (
        "**Without a caption**, for all their draws were rejected: 1 concept: wren."
        in (folder / "README.md").read_text()
    )
    (tmp_path / "unsafe.txt").write_text("owl\n")
    with pytest.raises(UserInputError, match="another configuration: what --unsafe-words holds"):
        write_captions(config(folder, unsafe_words=tmp_path / "unsafe.txt", **settings))


def test_backgrounds_of_a_list_are_asked_for(tmp_path, other_models):
    settings = {"concepts": birds(tmp_path), "language_model": "moody", "num_captions": 60}
    without = read_captions(write_captions(config(tmp_path / "without", **settings)))
    assert set(without["template"]) == {"concept", "relation"}
    (tmp_path / "places.txt").write_text("reed bed\nold barn\n")
    folder = write_captions(config(tmp_path / "with", backgrounds=tmp_path / "places.txt", **settings))
    rows = read_captions(folder)
    assert set(rows["background"]) == {"reed bed", "old barn", None}
    assert "background" in set(rows["template"])
    assert sum(note["counts"].get("no_background_list", 0) for note in notes(folder)) == 0
    with pytest.raises(UserInputError, match="another configuration: what --concepts and --backgrounds hold"):
        write_captions(config(folder, backgrounds="bird", **settings))


def test_examples_of_your_own_are_in_the_prompts(tmp_path, monkeypatch):
    class Nosy(MoodyModel):
        def complete(self, prompts, *, seeds, **options):
            plain = [prompt for prompt in prompts if "," not in prompt.splitlines()[-1]]
            assert all(prompt.startswith(("robin =>", "crow =>", "swift =>")) for prompt in plain) and plain
            return [f"An owl or a wren, number {seed}." for seed in seeds]

    monkeypatch.setitem(language_models.LANGUAGE_MODELS, "nosy", f"{__name__}:MoodyModel")
    monkeypatch.setattr(f"{__name__}.MoodyModel", Nosy)
    (tmp_path / "own").mkdir()
    lines = (f"{bird} => A {bird} on a fence post in the rain." for bird in ("robin", "crow", "swift"))
    (tmp_path / "own" / "concept.txt").write_text("\n".join(lines))
    settings = {"concepts": birds(tmp_path), "language_model": "nosy", "num_captions": 20}
    write_captions(config(tmp_path / "captions", examples=tmp_path / "own", **settings))
    with pytest.raises(UserInputError, match="another configuration: what --examples holds"):
        write_captions(config(tmp_path / "captions", **settings))


def test_names_that_come_again_are_said(tmp_path, other_models, caplog):
    settings = {"language_model": "moody", "num_captions": 5}
    write_captions(config(tmp_path / "captions", concepts=birds(tmp_path, "owl\nOwl\nwren\n"), **settings))
    assert caplog.records[0].getMessage() == "birds: 1 name is left out: it came again, or cannot be used"


@pytest.mark.parametrize(
    ("completion", "line"),
    [
        (" An owl.\nnext => line", "An owl."),
        ("\nAn owl.", ""),
        ('"An owl."', "An owl."),
        ("“An owl.”", "An owl."),
        ('An "owl".', 'An "owl".'),
        ("'", "'"),
        ("", ""),
    ],
)
def test_the_first_line_counts(completion, line):
    assert first_line(completion) == line


def test_what_is_asked_of_the_toy_model_by_default():
    assert CaptionsConfig("captions").concepts == "toyworld"
    assert CaptionsConfig("captions", language_model="org/name").concepts == "synclr"


def test_progress_ends_at_the_number_of_captions_whatever_a_model_reports(tmp_path, other_models, monkeypatch):
    """The model reports every draw, or nothing; rejected draws are taken back."""
    told = []
    monkeypatch.setattr("synclr_hf.data.progress.Progress.update", lambda self, count=1: told.append(count))
    settings = {"concepts": birds(tmp_path), "language_model": "moody", "num_captions": 60, "rows_per_shard": 60}
    write_captions(config(tmp_path / "captions", **settings))
    assert sum(told) == 60 and min(told) < 0 and len(told) > 100
