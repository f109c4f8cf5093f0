import json
from dataclasses import replace

import huggingface_hub
import pytest
from huggingface_hub import DatasetCard

from synclr_hf.data.cards import (
    REJECTED,
    UNFINISHED,
    CardFacts,
    CardSections,
    code,
    dataset_card,
    licence_fields,
    model_terms,
    plain,
    table,
)

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


NASTY = (
    "a | b",
    "\\|",
    "\\\\|",
    "`code` ``two``",
    "<script>alert(1)</script>",
    "&lt; &amp; AT&T",
    "**UNFINISHED** _bold_ ~~gone~~",
    "![picture](http://a.b/c.png) [link](d) www.e.f",
    "x\n---\n# heading\n\n| a | b |\n|---|---|\n",
    "```\nblock\n```",
    "a\x00b\x1b[31m \u202eturned",
    "猫 🐱 émigré",
    "C:\\path\\",
)


def card(complete=True, rows=1234, counts=(("too_long", 1234), ("duplicate", 5)), contents=None, facts=FACTS):
    return dataset_card(
        facts, rows=rows, num_bytes=2_500_000, counts=dict(counts), complete=complete, contents=contents
    )


def html(markdown):
    parser = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable(["table", "strikethrough"])
    return parser.render(markdown)


def shown(text):
    """Return the text as a person reads it on one line."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())


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
    sizes = [
        DatasetCard(card(rows=rows)).data.size_categories for rows in (1, 999, 1000, 10**6, 10**9 - 1, 10**9, 10**13)
    ]
    assert sizes == ["n<1K", "n<1K", "1K<n<10K", "1M<n<10M", "100M<n<1B", "1B<n<10B", "n>1T"]


def test_terms_say_what_was_not_checked():
    assert model_terms("toy", "language model")[0] == "apache-2.0"
    licence, sentence = model_terms("org/name", "language model")
    assert licence == "unknown" and "`org/name`" in sentence and "not checked" in sentence
    assert DatasetCard(dataset_card(replace(FACTS, license=licence), rows=1, num_bytes=1, counts={}, complete=True))


def test_sections_of_a_stage_stand_before_the_command_and_replace_their_namesakes():
    text = card(contents=CardSections({"Words": "Many.", REJECTED: "Some."}))
    headings = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["Columns", "Load it", "Words", REJECTED, "Make it again", "Terms"]
    assert "## Words\n\nMany.\n" in text and "| too_long |" not in text
    assert DatasetCard(text).data.to_dict() == DatasetCard(card()).data.to_dict()


def test_pictures_lie_where_the_card_looks_for_them(tmp_path):
    CardSections({}, {"card/a.png": b"one", "card/b.png": b"two"}).write_pictures(tmp_path)
    assert (tmp_path / "card/a.png").read_bytes() == b"one" and (tmp_path / "card/b.png").read_bytes() == b"two"


@pytest.mark.parametrize("text", NASTY)
def test_nasty_text_is_shown_and_does_nothing(text):
    from html import unescape

    page = html(f"before {plain(text)} after\n\n" + table(("a", "b"), [(plain(text), code(text)), ("c", "d")]))
    words = unescape(page)
    assert f"<p>before {shown(text)} after</p>" in words
    assert page.count("<td>") == 4 and page.count("<tr>") == 3, "no cell more or less"
    assert f"<td>{shown(text)}</td>" in words
    assert not any(tag in page for tag in ("<script", "<strong", "<em", "<del", "<a ", "<img", "<h1", "<pre"))
    cell = words.partition("<td><code>")[2].partition("</code></td>")[0]
    assert cell.replace("\\", "") == shown(text).replace("\\", ""), "a bar behind a backslash may lose it"


def test_long_text_is_cut():
    assert len(plain("word " * 1000)) == 300 and plain("word " * 1000).endswith("…")


def test_settings_and_commands_cannot_break_out(tmp_path):
    facts = replace(FACTS, settings={"concepts": "a`|`b\n# c"}, command="synclr captions ```\n# d")
    page = html(card(facts=facts).partition("\n---\n")[2])
    assert page.count("<h1>") == 1 and "<code>a`|`b # c</code></td>" in page
    assert "synclr captions ```\n# d\n</code></pre>" in page


@pytest.mark.parametrize(
    ("files", "fields"),
    [
        (
            {"README.md": "---\nlicense: llama2\nlicense_link: https://a.b\n---\n# Card"},
            {"license_link": "https://a.b"},
        ),
        ({"config.json": json.dumps({"license": "llama2"})}, {}),
        ({"README.md": "# No metadata", "config.json": json.dumps({"license": "llama2"})}, {}),
        ({"README.md": "---\n: [\n---\n", "config.json": json.dumps({"license": "llama2"})}, {}),
        ({"README.md": b"\xff\xfe\x00", "config.json": json.dumps({"license": "llama2"})}, {}),
    ],
)
def test_the_licence_is_what_the_files_of_the_model_say(tmp_path, files, fields):
    for name, text in files.items():
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert licence_fields(str(tmp_path)) == {"license": "llama2", **fields}
    assert licence_fields(f"transformers:{tmp_path}") == licence_fields(str(tmp_path))
    licence, sentence = model_terms(str(tmp_path), "language model")
    assert licence == "unknown", "the licence of the model is not that of what it makes"
    assert "its own files say license `llama2`" in sentence and "not checked" in sentence


@pytest.mark.parametrize(
    "files", [{}, {"config.json": "[1]"}, {"README.md": "---\ntags: [a]\n---\n"}, {"README.md": "---\n- a\n---"}]
)
def test_a_model_that_says_nothing_has_no_known_licence(tmp_path, files):
    folder = tmp_path / "Llama-2-7b"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    assert licence_fields(str(folder)) == {}
    assert "its own files say" not in model_terms(str(folder), "language model")[1]


def test_the_card_of_a_model_in_the_cache_of_the_hub_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "a" * 40
    snapshot = tmp_path / "models--org--name" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "README.md").write_text("---\nlicense: other\nlicense_name: ours\n---\n")
    (tmp_path / "models--org--name" / "refs").mkdir()
    (tmp_path / "models--org--name" / "refs" / "main").write_text(commit)
    assert licence_fields("org/name") == {"license": "other", "license_name": "ours"}
    assert licence_fields("transformers:org/name") == licence_fields("org/name")
    assert licence_fields("openai:org/name") == {}, "what a server runs is not known here"
    assert licence_fields("org/other") == licence_fields("a--b/c..d") == licence_fields("toy") == {}
