import os

import pytest

from synclr_hf.concepts.backgrounds import shared_backgrounds
from synclr_hf.concepts.banks import load_bank, load_concepts
from synclr_hf.concepts.concept import Concept
from synclr_hf.errors import UserInputError


@pytest.fixture
def write(tmp_path):
    def write_file(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write_file


def names(path):
    return [concept.name for concept in load_concepts(path)]


def test_the_toy_bank_has_its_things():
    bank = load_concepts("toyworld")
    assert len(bank) >= 40 and {concept.kind for concept in bank} == {"object", "scene", "texture"}
    assert len({concept.name for concept in bank}) == len(bank)


def test_one_concept_a_line(write):
    path = write("birds.txt", "# my birds\n\nbarn owl\r\n  house   sparrow  \nBarn Owl\nRüppell's warbler\n")
    assert load_concepts(path) == tuple(
        Concept(name, source="birds") for name in ("barn owl", "house sparrow", "Rüppell's warbler")
    )


def test_a_byte_order_mark_is_no_part_of_a_name(write):
    assert names(write("birds.txt", b"\xef\xbb\xbfowl\nwren")) == ["owl", "wren"]


def test_weights_and_kinds(write):
    path = write("things.csv", 'name,weight,kind\nowl,2.5\nharbor,1,scene\n"woven",,texture\nwren\n')
    assert load_concepts(path) == (
        Concept("owl", "things", weight=2.5),
        Concept("harbor", "things", kind="scene"),
        Concept("woven", "things", kind="texture"),
        Concept("wren", "things"),
    )


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "-inf", "often", "1e999", "1e13"])
def test_a_bad_weight(write, weight):
    path = write("things.csv", f"owl,1\nwren,{weight}\n")
    with pytest.raises(UserInputError, match=f"things.csv' line 2: the weight '{weight}' is not a number greater"):
        load_concepts(path)


@pytest.mark.parametrize("line", ["owl,1,bird", "owl,1,object,blue", ",1", '"a,b",1'])
def test_bad_rows(write, line):
    with pytest.raises(UserInputError, match="things.csv' line 1: "):
        load_concepts(write("things.csv", line))


@pytest.mark.parametrize("content", ["", "\n \n", "# nothing\n", "name,weight\n"])
def test_an_empty_file(write, content):
    path = write("empty.csv", content)
    with pytest.raises(UserInputError, match="empty.csv' holds no concepts; write one concept a line, or type --conc"):
        load_concepts(path)


@pytest.mark.parametrize("name", ["picture.txt", "numbers.csv"])
def test_a_binary_file(write, name):
    with pytest.raises(UserInputError, match="is not UTF-8 text .line 1."):
        load_concepts(write(name, b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe\xe9"))
    with pytest.raises(UserInputError, match="is not a text file .it holds binary data."):
        load_concepts(write(name, b"owl\x00\x01\x02"))


def test_latin_1(write):
    with pytest.raises(UserInputError, match="not UTF-8 text .line 2.; save it as UTF-8, or type --concepts toyworld"):
        load_concepts(write("birds.txt", "owl\nRüppell's warbler\n".encode("latin-1")))


@pytest.mark.parametrize(("line", "said"), [("owl, 0.5", "a comma"), ("owl => bird", "arrow"), ("---", "not a name")])
def test_lines_that_a_prompt_cannot_hold(write, line, said):
    with pytest.raises(UserInputError, match=f"birds.txt' line 2: .*{said}"):
        load_concepts(write("birds.txt", f"wren\n{line}\n"))


def test_no_such_bank_and_no_such_file(tmp_path):
    with pytest.raises(UserInputError) as caught:
        load_concepts("toywrld")
    assert "unknown concept bank 'toywrld' (did you mean 'toyworld'?)" in str(caught.value)
    assert "the path of a .txt or .csv file" in str(caught.value)
    with pytest.raises(UserInputError, match="there is no concept file 'birds.txt'"):
        load_concepts("birds.txt")
    with pytest.raises(UserInputError, match=r"cannot read the concept file '.*': it is a folder; type --concepts"):
        load_concepts(str(tmp_path))
    for name in ("", ".", "x" * 5000, "x" * 5000 + ".txt", "a/b", "~nobody", "a\0b.txt"):
        with pytest.raises(UserInputError, match="--concepts toyworld"):
            load_concepts(name)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_unicode(write, encoding):
    said = "is UTF-16 text; save it as UTF-8" if encoding in ("utf-16", "utf-32") else "holds binary data"
    with pytest.raises(UserInputError, match=said):
        load_concepts(write("birds.txt", "owl\nwren\n".encode(encoding)))


@pytest.mark.parametrize("name", ["birds.txt", "birds.csv"])
def test_any_line_ends(write, name):
    assert names(write(name, b"\xef\xbb\xbfowl\r\nwren\rbarn  owl\n\r\n  mug")) == ["owl", "wren", "barn owl", "mug"]


def test_columns(write):
    path = write("things.csv", "owl,2,object,bird\nmug,,,\nmeadow,1,scene\nwren, ,,bird\n")
    assert load_concepts(path) == (
        Concept("owl", "things", backgrounds=shared_backgrounds("bird"), weight=2.0),
        Concept("mug", "things"),
        Concept("meadow", "things", kind="scene"),
        Concept("wren", "things", backgrounds=shared_backgrounds("bird")),
    )


@pytest.mark.parametrize(
    ("heading", "row"),
    [("name,domain", "owl,bird"), ("Name,Kind,Domain", "owl,object,bird"), ("name,domain,weight", "owl,bird,1")],
)
def test_a_heading_names_the_columns(write, heading, row):
    assert load_concepts(write("things.csv", f"# mine\n{heading}\n{row}\n")) == (
        Concept("owl", "things", backgrounds=shared_backgrounds("bird")),
    )


@pytest.mark.parametrize("heading", ["name,wieght", "name,kind,kind", "name,"])
def test_a_heading_of_other_columns(write, heading):
    with pytest.raises(UserInputError, match="line 1: columns that are not name, weight, kind, domain, each once"):
        load_concepts(write("things.csv", f"{heading}\nowl,1\n"))


def test_a_place_is_no_background_of_itself(write):
    places = shared_backgrounds("flower")
    (concept,) = load_concepts(write("places.csv", f"{places[3].upper()},1,object,flower\n"))
    assert concept.backgrounds == (*places[:3], *places[4:])


def test_an_unknown_domain(write):
    with pytest.raises(
        UserInputError, match="line 1: unknown domain 'birds' .allowed: aircraft, amphibian, .* in 'owl,1"
    ):
        load_concepts(write("things.csv", "owl,1,object,birds\n"))


def test_names_that_come_again_are_dropped_and_counted(write):
    bank = load_bank(write("birds.csv", "Owl,3\nowl,1\nwren,1\nOWL,2\n"))
    assert [(concept.name, concept.weight) for concept in bank.concepts] == [("Owl", 3.0), ("wren", 1.0)]
    assert bank.dropped == {"birds": 2}
    composed = load_bank(write("birds.txt", "R\u00fcppell's warbler\nRu\u0308ppell's warbler\n"))
    assert [concept.name for concept in composed.concepts] == ["R\u00fcppell's warbler"]
    assert load_bank(write("same.txt", "owl\n" * 1000)).dropped == {"same": 999}
    assert load_bank("toyworld").dropped == {}


@pytest.mark.parametrize("name", ["birds.txt", "birds.csv"])
def test_an_absurd_name(write, name):
    path = write(name, "wren\n" + "owl " * 2500 + "\n")
    with pytest.raises(
        UserInputError, match="line 2: 'owl owl .*' has 9,999 characters, a name at most 100"
    ) as caught:
        load_concepts(path)
    assert len(str(caught.value)) < 400
    assert names(write(name, "x" * 100)) == ["x" * 100]
    with pytest.raises(UserInputError, match="line 1: 'xxx.*' has 101 characters"):
        load_concepts(write(name, "x" * 101))


@pytest.mark.parametrize("character", ["\x07", "\x0b", "\x1b", "\x7f", "\x85", "\u200b", "\u202e", "\u2028", "\ufeff"])
def test_control_characters(write, character):
    with pytest.raises(UserInputError, match=f"line 2: the name holds the control character U.{ord(character):04X};"):
        load_concepts(write("birds.txt", f"wren\now{character}l\n"))


def test_names_of_other_scripts(write):
    path = write(
        "birds.txt", "\u30d5\u30af\u30ed\u30a6\nbarn\u00a0owl\n\u0645\u06cc\u200c\u0634\u0648\u062f\nsnowy\towl\n"
    )
    assert names(path) == ["\u30d5\u30af\u30ed\u30a6", "barn owl", "\u0645\u06cc\u200c\u0634\u0648\u062f", "snowy owl"]


def test_a_file_too_large_is_not_even_read(tmp_path):
    path = tmp_path / "zeros.txt"
    with path.open("wb") as file:
        file.truncate(200 * 2**20)
    with pytest.raises(
        UserInputError, match="zeros.txt' has 200 MB, more than the 64 MB that it may have; type --con"
    ):
        load_concepts(path)


def test_a_pipe(tmp_path):
    path = tmp_path / "pipe.txt"
    os.mkfifo(path)
    with pytest.raises(UserInputError, match="pipe.txt': it is not a file"):
        load_concepts(path)


def test_every_message_is_one_line(write):
    with pytest.raises(UserInputError) as caught:
        load_concepts(write("birds.txt", "a\x0bb\n"))
    assert "\n" not in str(caught.value)


def test_an_unknown_kind():
    with pytest.raises(UserInputError, match="unknown kind of concept 'scenery' .did you mean 'scene'"):
        Concept("harbor", "test", kind="scenery")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "owl;2\nwren;1\n",
            "line 1: semicolons between the cells: save it with commas, in 'owl;2'; write name,",
        ),
        ("name;weight\nowl;2\n", "line 1: semicolons between the cells: save it with commas"),
        ("owl,1\nwren;2,5\n", "line 2: semicolons between the cells"),
        ('"owl";"2"\n', "line 1: semicolons between the cells"),
        ("name\tweight\nowl\t2\n", "line 1: tabs between the cells: save it with commas"),
        ("- owl,2\n", "line 1: '- owl' has a list mark or quotes"),
        ('"' + "x" * 140_000 + '",1\n', "line 1: no row (field larger than field limit (131072)) in"),
    ],
)
def test_tables_that_are_no_csv(write, content, said):
    with pytest.raises(UserInputError) as caught:
        load_concepts(write("things.csv", content))
    assert said in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "line", ["1. owl", "12) owl", "- owl", "* owl", "\u2022 owl", '"owl"', "\u201cowl\u201d", "'owl'"]
)
def test_list_marks_and_quotes(write, line):
    with pytest.raises(UserInputError, match="line 2: '.*' has a list mark or quotes; take them away, write the name"):
        load_concepts(write("birds.txt", f"wren\n{line}\n"))


@pytest.mark.parametrize("line", ["owl;2", "owl\t2", "owl\t0,5"])
def test_a_table_in_a_text_file(write, line):
    with pytest.raises(UserInputError, match="line 1: 'owl.*' is a row of a table; save it with commas, as name,weig"):
        load_concepts(write("birds.txt", f"{line}\n"))


def test_names_with_marks_of_their_own(write):
    kept = ["747 jet", "4-stroke engine", "'s-Hertogenbosch cathedral", "St. Bernard", "-40 thermometer", "2.0 badge"]
    assert names(write("things.txt", "\n".join(kept))) == kept
    assert names(write("things.csv", '"crow",1\n')) == ["crow"]


def test_a_file_that_is_no_list_by_its_ending_is_refused(tmp_path):
    (tmp_path / "birds.json").write_text('{"owl": 1}\n')
    with pytest.raises(UserInputError, match=r"birds.json' is no list of concepts by its ending; allowed: .txt, .csv"):
        load_concepts(tmp_path / "birds.json")
