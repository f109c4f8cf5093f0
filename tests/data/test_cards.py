from dataclasses import replace

from huggingface_hub import DatasetCard

from synclr_hf.data.cards import UNFINISHED, CardFacts, dataset_card, model_terms

FACTS = CardFacts(
    title="Captions of birds",
    summary="One caption a row.",
    columns={"caption": "one sentence", "template": "`a | b`"},
    terms={"Captions": "free"},
    license="apache-2.0",
    settings={"seed": 3},
    command="synclr captions --output-dir birds",
    task_categories=("text-generation",),
)


def card(complete=True, rows=1234, counts=(("too_long", 1234), ("duplicate", 5))):
    return dataset_card(FACTS, rows=rows, num_bytes=2_500_000, counts=dict(counts), complete=complete)


def test_the_hub_reads_its_metadata():
    data = DatasetCard(card()).data
    assert data.license == "apache-2.0" and data.pretty_name == "Captions of birds"
    assert "configs" not in data.to_dict(), "load_dataset would mix up folders of the same name"
    assert data.size_categories == "1K<n<10K" and data.task_categories == ["text-generation"]


def test_a_person_reads_the_numbers():
    text = card()
    assert "1,234 rows, 2.5 MB." in text and "| duplicate | 5 |\n| too_long | 1,234 |" in text
    assert "synclr captions --output-dir birds" in text and "| seed | `3` |" in text and "- **Captions**: free" in text
    assert "`a \\| b`" in text, "a bar inside a cell would end it"
    assert UNFINISHED not in text


def test_an_unfinished_run_says_so():
    text = card(complete=False, counts=())
    assert f"{UNFINISHED}: 1,234 rows are planned." in text and "Not counted yet." in text


def test_sizes():
    sizes = [DatasetCard(card(rows=rows)).data.size_categories for rows in (1, 999, 1000, 10**6, 10**9 - 1, 10**13)]
    assert sizes == ["n<1K", "n<1K", "1K<n<10K", "1M<n<10M", "100M<n<1B", "n>1T"]


def test_terms_say_what_was_not_checked():
    assert model_terms("toy", "language model")[0] == "apache-2.0"
    licence, sentence = model_terms("org/name", "language model")
    assert licence == "unknown" and "`org/name`" in sentence and "not checked" in sentence
    assert DatasetCard(dataset_card(replace(FACTS, license=licence), rows=1, num_bytes=1, counts={}, complete=True))
