from collections import Counter

import pytest

from synclr_hf.concepts.banks import load_bank, load_concepts
from synclr_hf.concepts.mixture import ConceptMixture
from synclr_hf.errors import UserInputError


@pytest.fixture
def write(tmp_path):
    def write_file(name, content):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        return str(path)

    return write_file


def refused(path):
    with pytest.raises(UserInputError) as caught:
        load_concepts(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_banks_by_name_and_by_path_beside_the_file(write, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    write("lists/birds.csv", "owl,3\nwren,1\nOwl,9\n")
    write("lists/more.txt", "mug\n")
    absolute = tmp_path / "lists" / "more.txt"
    path = write(
        "mine.yaml",
        f"components:\n- {{share: 6, banks: [lists/birds.csv]}}\n- share: 2\n  banks: ['{absolute}', dtd]\n",
    )
    bank = load_bank(path)
    weights = {concept.name: concept.weight for concept in bank.concepts}
    assert len(bank.concepts) == 2 + 1 + 47 and bank.dropped == {"birds": 1}
    assert weights["owl"] == pytest.approx(0.75 * 0.75) and weights["wren"] == pytest.approx(0.75 * 0.25)
    assert weights["mug"] == weights["woven"] == pytest.approx(0.25 / 48)
    assert sum(weights.values()) == pytest.approx(1)


def test_a_name_of_two_banks_is_kept_in_each(write):
    write("a.txt", "owl\nmug\n")
    write("b.txt", "owl\n")
    path = write("mine.yml", "components: [{share: 0.9, banks: [a.txt]}, {share: 0.1, banks: [b.txt]}]")
    found = {(concept.name, concept.source): concept.weight for concept in load_concepts(path)}
    assert found == pytest.approx({("owl", "a"): 0.45, ("mug", "a"): 0.45, ("owl", "b"): 0.1})


def test_draws_follow_the_shares(write):
    write("a.csv", "owl,1e-3\nmug,3e-3\n")
    write("b.csv", "wren,1e9\n")
    path = write("mine.yaml", "components: [{share: 2, banks: [a.csv]}, {share: 3, banks: [b.csv]}]")
    mixture = ConceptMixture(load_concepts(path))
    draws = 20_000
    drawn = Counter(mixture.sample(seed).concept.name for seed in range(draws))
    for name, share in {"owl": 0.1, "mug": 0.3, "wren": 0.6}.items():
        assert abs(drawn[name] / draws - share) < 4 * (share * (1 - share) / draws) ** 0.5, name


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "must have one key, 'components'"),
        ("components:\n", "must list at least one component"),
        ("components: []", "must list at least one component"),
        ("components: dtd", "must list at least one component"),
        ("banks: [dtd]", "must have one key, 'components'"),
        ("components: []\nseed: 1", "must have one key, 'components'"),
        ("- dtd", "must have one key, 'components'"),
        ("components: [dtd]", "component 1 must have the keys 'share' and 'banks' and no others"),
        ("components: [{share: 1, banks: [dtd], weight: 2}]", "component 1 must have the keys"),
        ("components: [{share: 1, banks: [dtd]}, {share: 1}]", "component 2 must have the keys"),
        ("components: [{share: 1, banks: []}]", "component 1: 'banks' must be a list of at least one name"),
        ("components: [{share: 1, banks: dtd}]", "component 1: 'banks' must be a list"),
        ("components: [{share: 1, banks: [3]}]", "component 1: 'banks' must be a list"),
        ("components: [{share: 1, banks: [dtd]}, {share: 2, banks: [pets, dtd]}]", "lists the bank 'dtd' twice"),
        ("components: [{share: 1, banks: [dtd\n", "is not YAML (line 2)"),
        ("components: \t- x", "is not YAML (line 1)"),
        ("components: \x07", "is not YAML"),
        ("[" * 5000, "cannot be read"),
    ],
)
def test_files_of_another_form(write, content, said):
    message = refused(write("mine.yaml", content))
    assert said in message and message.endswith("banks: [my_birds.txt, pets]}]")


@pytest.mark.parametrize("share", ["0", "-1", ".nan", ".inf", "often", "true", "null", "[1]"])
def test_bad_shares(write, share):
    message = refused(write("mine.yaml", f"components: [{{share: {share}, banks: [dtd]}}]"))
    assert "component 1: the share '" in message and "is not a number greater than 0" in message


@pytest.mark.parametrize(
    ("bank", "said"),
    [
        ("dtdd", "unknown concept bank 'dtdd' (did you mean 'dtd'?)"),
        ("birds.txt", "there is no concept file '"),
        ("synclr", "'synclr' is a mixture itself; list its banks here instead"),
        ("mine.yaml", "'mine.yaml' is a mixture itself"),
        ("'hub:'", "'hub:' names no data set"),
        ("empty.txt", "holds no concepts"),
        (".", "it is a folder"),
    ],
)
def test_banks_that_cannot_be_loaded(write, bank, said):
    write("empty.txt", "# nothing\n")
    message = refused(write("mine.yaml", f"components: [{{share: 1, banks: [{bank}]}}]"))
    assert "mine.yaml'" in message and said in message


def test_no_such_mixture(tmp_path):
    assert "there is no mixture file '" in refused(str(tmp_path / "none.yaml"))


def test_every_bank_of_a_mixture_has_a_source_of_its_own(write):
    write("pets.txt", "axolotl\n")
    write("a/birds.txt", "owl\n")
    write("b/birds.txt", "wren\n")
    one = "components: [{{share: 1, banks: [{}]}}, {{share: 1, banks: [{}]}}]"
    message = refused(write("mine.yaml", one.format("pets.txt", "pets")))
    assert "the banks 'pets.txt' and 'pets' are both called 'pets'" in message and "rename the file" in message
    assert "are both called 'birds'" in refused(write("mine.yaml", one.format("a/birds.txt", "b/birds.txt")))
    for again in ("./a/birds.txt", "a/../a/birds.txt"):
        message = refused(write("mine.yaml", one.format("a/birds.txt", again)))
        assert f"lists one bank twice, as 'a/birds.txt' and as '{again}'; take one of them out" in message
