import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from huggingface_hub import DatasetCard
from PIL import Image

from synclr_hf.captions.card import CaptionFacts, caption_card_sections, describe_captions
from synclr_hf.captions.stage import CaptionsConfig, write_captions
from synclr_hf.captions.statistics import caption_statistics
from synclr_hf.data.cards import REJECTED, UNFINISHED, CardFacts, dataset_card
from synclr_hf.data.schemas import caption_features
from synclr_hf.data.tally import Tally

FACTS = CaptionFacts("toy", temperature=0.8, top_p=0.9, max_new_tokens=100, seed=0)
CARD = CardFacts("Captions", "Captions.", {"caption": "text"}, {"All": "free"}, "mit", {}, "synclr captions")
NASTY = (
    "A | b `code` <script>alert(1)</script> **UNFINISHED** ![x](y) $x^2$",
    "猫が座っている 窓の そばに 🐱",
    "W" * 4000,
    "---\n# heading\n```\n",
    "\\frac{1}{2} $a_b$ مرحبا",
    "",
)


def statistics_of(folder, captions, sources=1, concepts=5):
    rows = [
        {
            "caption_id": number,
            "caption": caption,
            "concept": f"thing {number % concepts}",
            "source": f"bank {number % sources}",
            "template": ("concept", "background", "relation")[number % 3],
            "background": "a | b" if number % 3 == 1 else None,
            "relation": "next to" if number % 3 == 2 else None,
            "language_model": "m@`1`",
            "seed": number,
        }
        for number, caption in enumerate(captions)
    ]
    file = folder / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=caption_features().arrow_schema), file)
    return caption_statistics([file])


def sections(folder, captions=("An owl.",) * 4, tally=None, facts=FACTS, **rows):
    return caption_card_sections(statistics_of(folder, captions, **rows), tally or Tally(), facts)


def sizes(card):
    return {Path(name).name: Image.open(io.BytesIO(data)).size for name, data in card.pictures.items()}


def test_wanted_and_drawn_shares_stand_side_by_side(tmp_path):
    facts = replace(FACTS, wanted_shares={"bank 0": 0.6, "bank 1": 0.3, "never": 0.1})
    text = sections(tmp_path, sources=2, facts=facts).sections["Mixture"]
    assert "| bank 0 | 60.0 % | 50.0 % | 2 |\n| bank 1 | 30.0 % | 50.0 % | 2 |\n| never | 10.0 % | 0.0 % | 0 |" in text
    assert "| concept | 50.0 % | 2 |\n| background | 25.0 % | 1 |\n| relation | 25.0 % | 1 |" in text
    assert "| bank 0 | – | 50.0 % | 2 |" in sections(tmp_path, sources=2).sections["Mixture"]


def test_many_sources_share_a_line(tmp_path):
    text = sections(tmp_path, ["An owl."] * 120, sources=60).sections["Mixture"]
    assert text.count("| bank") == 40 and "| 20 more | – | 33.3 % | 40 |" in text


def test_rejected_draws_and_concepts_that_never_got_a_caption(tmp_path):
    never = {f"ghost {number:02d}": 2 for number in range(25)}
    tally = Tally(Counter(too_long=3, lacks_concept=50), Counter({"thing 0": 3, **never}))
    card = sections(tmp_path, tally=tally)
    assert "Of 57 draws 4 were kept (7.0 %)" in card.sections[REJECTED]
    assert "| lacks_concept | 50 |\n| too_long | 3 |" in card.sections[REJECTED]
    assert "(card/rejected.png)" in card.sections[REJECTED] and "card/rejected.png" in card.pictures
    told = card.sections["Concepts"]
    assert "25 concepts: ghost 00, ghost 01" in told and "ghost 19, and 5 more." in told and "ghost 20" not in told
    assert "thing 0 (1), thing 1 (1)" in told
    quiet = sections(tmp_path)
    assert quiet.sections[REJECTED] == "None." and "card/rejected.png" not in quiet.pictures
    assert "Without a caption" not in quiet.sections["Concepts"]


def test_cost_and_what_was_not_counted(tmp_path):
    told = sections(tmp_path, tally=Tally(cost=Counter(seconds=8, completion_tokens=4000))).sections["Making and cost"]
    assert "| completion tokens | 4,000 |" in told and "| prompt tokens | not counted |" in told
    assert "| completion tokens a second | 500.0 |" in told and "| captions a second of one process | 0.5 |" in told
    assert "| temperature | 0.8 |\n| top-p | 0.9 |" in told and "Apache-2.0" in told
    free = sections(tmp_path, facts=replace(FACTS, language_model="org/name")).sections["Making and cost"]
    assert free.count("not counted") == 5 and "| its licence | unknown, not checked |" in free


def test_the_licence_that_the_model_states(tmp_path):
    (tmp_path / "README.md").write_text("---\nlicense: llama2\n---\n")
    facts = replace(FACTS, language_model=str(tmp_path))
    assert (
        "| its licence | license: llama2 (its own files say so"
        in sections(tmp_path, facts=facts).sections["Making and cost"]
    )


def test_lengths_and_diversity(tmp_path):
    captions = ["An owl sits on a branch."] * 3 + ["One wren."]
    card = sections(tmp_path, captions)
    assert "Words, in all rows: 2 to 6, 5.0 in the mean, 6 in the median." in card.sections["Lengths"]
    assert "in all rows: 5 to 9, 8.0 in the mean, 9 in the median; it reads 77." in card.sections["Lengths"]
    told = card.sections["Diversity"]
    assert "| exact duplicates | 50.0 % |" in told and "| begin alike | 75.0 % |" in told
    assert "| self-similarity, mean | 0.750 |" in told and "over 4 captions" in told
    assert "“an owl sits” (75.0 %)" in told and "aside: branch, owl, sits, wren." in told
    assert set(sizes(card)) == {"lengths.png", "tokens.png", "words.png"} and all(
        width == 1200 for width, _ in sizes(card).values()
    )


@pytest.mark.parametrize("captions", [["An owl."], [""], NASTY, NASTY * 60])
def test_nasty_captions_stay_inside_their_cells(tmp_path, captions):
    tally = Tally(Counter({f"reason|{number}": number for number in range(30)}), Counter({"<b>|`\n": 3}))
    facts = replace(FACTS, language_model="a`|b", wanted_shares={"<i>|": 1.0})
    card = sections(tmp_path, captions, tally=tally, facts=facts, sources=60)
    text = dataset_card(CARD, rows=len(captions), num_bytes=1, counts={}, complete=True, contents=card)
    assert UNFINISHED not in text, "or the card would be written again"
    assert DatasetCard(text).data.license == "mit"
    page = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table").render(text)
    assert page.count("<h1>") == 1 and page.count("<h2>") == 4 + len(card.sections)
    assert "<script" not in page and "<i>" not in page and "<b>" not in page
    assert page.count("<img") == len(card.pictures) and all(height < 2000 for _, height in sizes(card).values())


def test_same_rows_same_card(tmp_path):
    tally = Tally(Counter(too_long=3, empty=3), Counter(owl=6), Counter(seconds=2))
    first, second = (sections(tmp_path, NASTY * 9, tally=tally) for _ in range(2))
    assert first == second


def test_a_finished_run_is_described_and_loads_as_before(tmp_path):
    folder = write_captions(CaptionsConfig(str(tmp_path / "run"), num_captions=150, rows_per_shard=64), workers=1)
    files = sorted((folder / "data").iterdir())
    card = describe_captions(files, Tally(), FACTS)
    assert card == describe_captions(reversed(files), Tally(), FACTS), "in whatever order shards were finished"
    card.write_pictures(folder)
    (folder / "README.md").write_text(
        dataset_card(CARD, rows=150, num_bytes=1, counts={}, complete=True, contents=card)
    )
    (folder / "rejects").mkdir(exist_ok=True)
    (folder / "rejects" / "00000.jsonl").write_text('{"caption": "", "reason": "empty"}\n')
    assert {"lengths.png", "tokens.png", "words.png"} <= {path.name for path in (folder / "card").iterdir()}
    rows = load_dataset(str(folder))
    assert list(rows) == ["train"] and rows["train"].features == caption_features() and len(rows["train"]) == 150
    assert rows["train"]["caption_id"][:] == list(range(150))
    assert f"| toyworld | – | 100.0 % | {len(rows['train'])} |" in (folder / "README.md").read_text()
