"""Numbers of `synclr evaluate` in a model's card."""

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.errors import HTTPError

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.results import EvaluationResult
from synclr_hf.hub.evaluations import card_with_results, update_card

CARD = """---
license: mit
model_name: birds
---

# birds

Words.

## Evaluation

None yet.

## Limits

Many.
"""


def result(value=0.5, protocol="knn", name="/data/birds", **changes):
    dataset = {"name": name, "benchmark": None, "is_toy": False, "metric": "accuracy"}
    dataset |= {"num_pictures": {"train": 10, "test": 2000}, **changes}
    model = {"name": "org/birds", "weights": "abc", "fingerprint": "f", "settings": {}}
    numbers = {"primary": "accuracy", "metrics": {"accuracy": value}, "intervals": {"accuracy": [value - 0.1, value]}}
    rest = {"config": {}, "details": {}, "seed": 0, "question": "q", "seconds": 1.0, "machine": {}, "versions": {}}
    return EvaluationResult(model=model, dataset=dataset, protocol=protocol, **numbers, **rest)


def test_metadata_and_table_grow_and_are_replaced():
    text = card_with_results(CARD, [result(0.5), result(0.6, "linear")])
    again = card_with_results(text, [result(0.7), result(0.4, name="org/flowers")])
    for card, values in ((text, [0.5, 0.6]), (again, [0.6, 0.7, 0.4])):
        loaded = ModelCard(card)
        assert [one.metric_value for one in loaded.data.eval_results] == values
        assert loaded.data.license == "mit" and loaded.data.model_name == "birds"
        section = card[card.index("## Evaluation") : card.index("## Limits")]
        assert section.count("| knn |") + section.count("| linear |") == len(values)
    assert "| birds | knn | accuracy | 70.0 % [60.0, 70.0] | 10 | 2,000 |" in again and "50.0 %" not in again
    assert "/data" not in again and "org/flowers" in again and again.endswith("Many.\n")


def test_toy_pictures_and_parts_never_take_the_name_of_the_whole():
    whole = {"benchmark": "flowers", "is_whole_benchmark": True}
    runs = [
        result(0.9, is_toy=True, **whole),
        result(0.4, **whole),
        result(0.5, **{**whole, "is_whole_benchmark": False}),
    ]
    card = ModelCard(card_with_results(CARD, runs))  # the metadata is read again as the Hub reads it
    assert {one.dataset_name: one.metric_value for one in card.data.eval_results} == {
        "flowers (toy pictures)": 0.9,
        "flowers": 0.4,
        "flowers (part of the benchmark)": 0.5,
    }


@pytest.mark.parametrize("error", [HTTPError(""), ValueError("bad metadata\nmore"), OSError("no disk")])
def test_a_hub_that_does_not_answer_or_refuses_is_told_in_one_line(error, monkeypatch):
    def load(where):
        raise error

    monkeypatch.setattr(ModelCard, "load", load)
    reason = (str(error) or "HTTPError").splitlines()[0]
    with pytest.raises(UserInputError, match=rf"^the card of 'org/birds' cannot be written \({reason}\); log in"):
        update_card("org/birds", [result()])


def test_a_card_in_a_folder_is_updated_and_a_missing_one_is_told(tmp_path):
    (tmp_path / "README.md").write_text("# birds\n")
    assert update_card(str(tmp_path), [result(is_toy=True)]) == f"card: {tmp_path}/README.md"
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.eval_results[0].dataset_name == "birds (toy pictures)" and card.data.model_name == "birds"
    (tmp_path / "README.md").unlink()
    update_card(str(tmp_path), [result()])
    assert f"# {tmp_path.name}\n\n## Evaluation\n" in (tmp_path / "README.md").read_text()
    assert update_card("pixels", [result()]) is None and update_card("untrained:org/birds", [result()]) is None
