import json
import re
from importlib.resources import files

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from synclr_hf.captions.filters import lacks_concept
from synclr_hf.concepts.backgrounds import BACKGROUND_DOMAINS, read_backgrounds, shared_backgrounds, with_backgrounds
from synclr_hf.concepts.banks import CONCEPT_BANKS, load_concepts
from synclr_hf.concepts.concept import Concept
from synclr_hf.data.schemas import background_features
from synclr_hf.errors import UserInputError

OWL = Concept("Barn Owl", "birds")
CRANE = Concept("crane", "birds", backgrounds=("marsh",), weight=3.0)
MACHINE = Concept("crane", "machines")
COVE = Concept("cove", "birds", kind="scene")
PLACES = {
    ("barn owl", "birds"): ["old barn", "barn owl", "church tower"],
    ("crane", "machines"): ["harbor", "building site"],
    ("cove", "birds"): ["coast"],
    ("wren", "birds"): [],
}


@pytest.fixture(autouse=True)
def own_datasets_cache(tmp_path_factory, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def write_set(folder, places=PLACES, **changes):
    rows = [
        {"concept": name, "source": source, "backgrounds": backgrounds, "language_model": "toy", "seed": 1}
        for (name, source), backgrounds in places.items()
    ]
    columns = {name: [row[name] for row in rows] for name in background_features()} | changes
    columns = {name: values for name, values in columns.items() if values is not None}
    schema = None if changes else background_features().arrow_schema
    (folder / "data").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns, schema=schema), folder / "data" / "train-00000.parquet")
    return str(folder)


def test_every_domain_has_a_list_and_every_list_a_domain():
    shipped = files("synclr_hf.concepts") / "backgrounds"
    assert sorted(file.name for file in shipped.iterdir()) == [f"{domain}.txt" for domain in BACKGROUND_DOMAINS]
    assert len(BACKGROUND_DOMAINS) == 30


def same(one, other):
    """Whether two names hold the same words, whatever their endings."""
    return lacks_concept(one, other) is None and lacks_concept(other, one) is None


@pytest.mark.parametrize("domain", BACKGROUND_DOMAINS)
def test_the_places_of_a_list(domain):
    places = shared_backgrounds(domain)
    assert 40 <= len(places) <= 60 and shared_backgrounds(domain) is places
    for number, place in enumerate(places):
        assert re.fullmatch(r"[a-z][a-z'-]*( [a-z][a-z'-]*){0,4}", place), place
        assert place.split()[0] not in ("a", "an", "the", "in", "on", "at"), place
        assert not any(same(place, name.replace("_", " ")) for name in BACKGROUND_DOMAINS), place
        assert lacks_concept(place, domain.replace("_", " ")), f"'{place}' is itself a {domain}"
        assert not any(same(place, other) for other in places[:number]), place


def test_most_places_are_named_in_few_lists():
    """A list is made for its domain: no two lists are nearly the same."""
    for domain in BACKGROUND_DOMAINS:
        for other in BACKGROUND_DOMAINS:
            shared = set(shared_backgrounds(domain)) & set(shared_backgrounds(other))
            assert domain == other or len(shared) < 25, (domain, other, len(shared))


@pytest.mark.parametrize("bank", CONCEPT_BANKS)
def test_no_concept_of_a_bank_is_a_place_of_its_own(bank):
    objects = [concept for concept in load_concepts(bank) if concept.kind == "object"]
    assert [concept.name for concept in objects if concept.name.casefold() in concept.backgrounds] == []


def test_an_unknown_domain():
    said = "unknown domain of backgrounds 'birds' (did you mean 'bird'?); allowed: aircraft, amphibian, bird, boat"
    for ask in (shared_backgrounds, lambda spec: with_backgrounds([OWL], spec)):
        with pytest.raises(UserInputError, match=re.escape(said)) as caught:
            ask("birds")
        assert "type --backgrounds bird" in str(caught.value) and "\n" not in str(caught.value)


def test_a_shared_list_goes_to_every_object():
    reeds = Concept("Reed Bed", "birds", weight=2.0)
    owl, crane, cove, given = with_backgrounds([OWL, CRANE, COVE, reeds], "bird")
    assert owl == Concept("Barn Owl", "birds", backgrounds=shared_backgrounds("bird"))
    assert crane == Concept("crane", "birds", backgrounds=shared_backgrounds("bird"), weight=3.0)
    assert owl.backgrounds is crane.backgrounds is shared_backgrounds("bird"), "a million concepts, one list"
    assert cove is COVE, "no caption asks for the background of a scene"
    assert set(shared_backgrounds("bird")) - set(given.backgrounds) == {"reed bed"}, "no place is the concept itself"


def test_a_list_of_the_user(tmp_path):
    path = tmp_path / "places.txt"
    path.write_bytes("\ufeff# mine\r\n\r\n  old   barn \r\nChurch tower\nchurch tower\nRüti\n".encode())
    assert with_backgrounds([CRANE], path)[0].backgrounds == ("old barn", "Church tower", "Rüti")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "places.txt' holds no places; write one a line, or type --backgrounds bird"),
        (b"# nothing\n\n", "places.txt' holds no places"),
        (b"barn\nbarn, tower\n", "places.txt' line 2: 'barn, tower' is no place; write one a line, without commas"),
        (b"barn => tower\n", "places.txt' line 1: 'barn => tower' is no place"),
        (b"barn\n---\n", "places.txt' line 2: '---' is no place"),
        (b"b\xff\xfern", "places.txt' is not UTF-8 text (line 1); save it as UTF-8"),
        (b"barn\nto\x1bwer\n", "places.txt' line 2: the line holds the control character U+001B; take it out"),
        (b"barn\0", "places.txt' is not a text file (it holds binary data)"),
        (None, "there is no file of backgrounds '"),
    ],
)
def test_a_list_that_cannot_be_used(tmp_path, content, said):
    path = tmp_path / "places.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserInputError, match=re.escape(said)) as caught:
        with_backgrounds([OWL], str(path))
    assert "\n" not in str(caught.value)


def test_a_set_is_looked_up_by_name_and_source_then_by_name(tmp_path):
    where = write_set(tmp_path / "backgrounds")
    concepts = (OWL, CRANE, MACHINE, COVE, Concept("owl", "birds"), Concept("wren", "mine", backgrounds=("hedge",)))
    owl, crane, machine, cove, other, wren = with_backgrounds(concepts, where)
    assert owl.backgrounds == ("old barn", "church tower")
    assert crane.backgrounds == machine.backgrounds == ("harbor", "building site") and crane.weight == 3.0
    assert (cove, other) == (COVE, Concept("owl", "birds"))
    assert wren.backgrounds == ("hedge",), "an empty list gives nothing"
    both = {("crane", "machines"): ["harbor"], ("crane", "birds"): ["marsh edge"]}
    found = with_backgrounds((CRANE, MACHINE), write_set(tmp_path / "both", both))
    assert [concept.backgrounds for concept in found] == [("marsh edge",), ("harbor",)]


def test_a_set_of_another_shape_is_read_too(tmp_path):
    Dataset.from_list([{"concept": "crane", "source": "x", "backgrounds": ["quay"], "language_model": "m", "seed": 0}],
                      features=background_features()).to_parquet(tmp_path / "mine.parquet")  # fmt: skip
    assert with_backgrounds([MACHINE], str(tmp_path))[0].backgrounds == ("quay",)
    assert read_backgrounds(tmp_path).features == background_features()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"backgrounds": None, "seed": None},
            "has no column backgrounds, seed (it has concept, source, lang",
        ),
        (
            {"backgrounds": ["barn"] * 4},
            "holds no names with lists of places (concept: Value('string'), backg",
        ),
        ({"concept": ["a", "b", "c", "d"]}, "names none of the 2 concepts (the first: 'Barn Owl'); make backgrounds"),
    ],
)
def test_a_set_that_cannot_be_used(tmp_path, changes, said):
    with pytest.raises(UserInputError, match=re.escape(said)) as caught:
        with_backgrounds([OWL, CRANE], write_set(tmp_path / "set", **changes))
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_set(tmp_path):
    with pytest.raises(UserInputError, match="holds no rows .* type synclr backgrounds --output-dir"):
        with_backgrounds([OWL], str(tmp_path))
    record = {"stage": "captions", "rows": 4, "rows_per_shard": 4, "configuration": {}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserInputError, match="holds captions, not backgrounds; type the folder that synclr backg"):
        with_backgrounds([OWL], str(tmp_path))
    (tmp_path / "run.json").write_text(json.dumps({**record, "stage": "backgrounds", "command": "synclr b"}))
    with pytest.raises(UserInputError, match="is not finished: 0 of 1 shards; finish it first: type synclr b"):
        with_backgrounds([OWL], str(tmp_path))
    with pytest.raises(UserInputError, match="nowhere/at/all' does not exist; make it first: type synclr backgrounds"):
        with_backgrounds([OWL], "nowhere/at/all")
    for name in ("b" * 5000, "~nobody_of_that_name", "b/" * 3000, "a\0b", "a/\0b", "a\0b.txt", "b" * 5000 + ".txt"):
        with pytest.raises(UserInputError, match="type --backgrounds bird|does not exist") as caught:
            with_backgrounds([OWL], name)
        assert len(str(caught.value)) < 1000 and str(caught.value).isprintable()
