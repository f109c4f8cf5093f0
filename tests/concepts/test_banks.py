import pytest

from synclr_hf.concepts.banks import load_concepts
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


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "often", "1e999"])
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


@pytest.mark.parametrize("name", ["picture.png", "numbers.csv"])
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
    with pytest.raises(UserInputError, match=r"cannot read the concept file '.*' \(Is a directory\)"):
        load_concepts(str(tmp_path))


def test_every_message_is_one_line(write):
    with pytest.raises(UserInputError) as caught:
        load_concepts(write("birds.txt", "a\x0bb\n"))
    assert "\n" not in str(caught.value)


def test_an_unknown_kind():
    with pytest.raises(UserInputError, match="unknown kind of concept 'scenery' .did you mean 'scene'"):
        Concept("harbor", "test", kind="scenery")
