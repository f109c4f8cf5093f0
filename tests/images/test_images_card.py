import io
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from synclr_hf.data.cards import REJECTED
from synclr_hf.data.grids import LARGEST, caption_grid
from synclr_hf.data.tally import Tally
from synclr_hf.images.card import image_card_sections
from synclr_hf.images.config import ImagesConfig
from synclr_hf.images.facts import making_lines, reason_lines
from synclr_hf.images.samples import picture_sample
from synclr_hf.images.statistics import ImageStatistics

CONFIG = ImagesConfig("images", "captions")
NASTY = "A | b `code` <script>alert(1)</script> ![x](y) " + "W" * 300


def encoded(size=32, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def statistics(rows=2, pictures=2, caption="A cup.", concept="cup", scores=None, made=None):
    shown = {"caption": caption, "concept": concept, "scores": scores}
    sample = [
        {"caption_id": n, "images": [encoded(seed=n * 10 + k) for k in range(pictures)], **shown} for n in range(rows)
    ]
    return ImageStatistics(
        rows=rows,
        pictures=rows * pictures,
        sources={"bank": rows * pictures},
        concepts={concept: rows * pictures},
        pictures_per_caption={pictures: rows},
        made=made
        or {"generator": {"org/model": rows * pictures}, "device": {"NVIDIA H100 80GB HBM3": rows * pictures}},
        scores={25: rows, 31: rows} if scores else {},
        score_mean=0.28 if scores else None,
        sample=picture_sample(sample),
    )


def without_pictures(**changes):
    """Draws nothing, so the card is there at once."""
    return replace(statistics(**changes), sample=picture_sample([]))


@pytest.fixture(scope="module")
def plain():
    """The card of two captions that says nothing special, with its pictures."""
    return image_card_sections(statistics(), Tally(), CONFIG)


def test_rejects_stand_with_their_shares(plain):
    counts = Counter(flat=4, black=1, kept_flat=2, blocked=5, caption_cut=1, dropped_blocked=1, empty_caption=1, odd=3)
    tally = Tally(counts, cost=Counter(pictures=200), dropped=2)
    lines = reason_lines(statistics(), tally)
    assert [reason for reason, *_ in lines] == (
        "black flat blocked kept_flat caption_cut empty_caption dropped_blocked odd".split()
    )
    assert lines[0][1:3] == (1, "0.50 % of the pictures drawn") and lines[4][1:3] == (1, "25.0 % of the captions")
    told = image_card_sections(without_pictures(), tally, CONFIG).sections[REJECTED]
    assert "200 pictures were drawn, 4 are here." in told and "Of 4 captions 2 (50.0 %) have no row here." in told
    assert "| kept_flat | 2 | 1.0 % of the pictures drawn | was so in the last try" in told
    assert plain.sections[REJECTED] == "Not counted."
    none = image_card_sections(without_pictures(), Tally(cost=Counter(pictures=4)), CONFIG)
    assert "No picture was rejected." in none.sections[REJECTED]


@pytest.mark.parametrize(
    ("made", "unit"),
    [
        ({"device": {"NVIDIA A100-SXM4-80GB": 3, "NVIDIA L4": 1}}, "GPU-hour"),
        ({"generator": {"toyworld-renderer": 4}}, "core-hour"),
        ({"generator": {"m": 4}, "device": {"cpu": 4}}, "hour of one process on the CPU"),
        ({"generator": {"m": 4}, "device": {"cpu": 2, "NVIDIA L4": 2}}, "hour of one process"),
        ({"generator": {"m": 4}, "device": {"NVIDIA L4": 2}}, "hour of one process"),
        ({}, "hour of one process"),
    ],
)
def test_the_cost_is_per_hour_of_what_was_used(made, unit):
    told = dict(making_lines(replace(statistics(), made=made), Tally(cost=Counter(pictures=6, seconds=7.2))))
    assert told[f"pictures kept per {unit}"] == "2,000" and told[f"pictures drawn per {unit}"] == "3,000"


def test_the_cost_names_models_licences_and_what_differs(tmp_path, plain):
    (tmp_path / "README.md").write_text("---\nlicense: openrail++\n---\n")
    made = {
        "generator": {"a`b|": 3, "c": 1},
        "scheduler": {"": 4},
        "guidance_scale": {"2.5": 4},
        "adapter": {"lora": 1},
        "zoo": {"x": 4},
    }
    config = replace(CONFIG, image_generator="diffusers:org/name", adapter=str(tmp_path))
    card = image_card_sections(replace(without_pictures(), made=made), Tally(), config)
    told = card.sections["Making and cost"]
    assert "| generator | `` a`b\\| (75.0 %), c (25.0 %) `` |" in told and "scheduler" not in told
    assert "| adapter | `none (75.0 %), lora (25.0 %)` |" in told  # rows that say nothing of one have none
    assert "| guidance scale | `2.5` |" in told and "| zoo | `x` |" in told
    assert "| licence of the generator | unknown, not checked |" in told
    assert "| licence of the adapter | license: openrail++ (its own files say so; not checked) |" in told
    assert told.count("`not counted`") == 4
    unknown = image_card_sections(without_pictures(), Tally(), None)
    assert "licence" not in unknown.sections["Making and cost"]


def test_scores_and_sizes(plain):
    config = replace(CONFIG, score_model="org/clip")
    card = image_card_sections(statistics(scores=[0.25, 0.31], caption=NASTY, concept=NASTY), Tally(), config)
    assert "by `org/clip`, in all rows: 0.25 to 0.31, 0.280 in the mean" in card.sections["Scores"]
    assert set(card.pictures) == {f"card/{name}.png" for name in ("samples", "sizes", "variety", "scores")}
    assert "Scores" not in plain.sections and "card/scores.png" not in plain.pictures
    assert "4 pictures of 2 captions: 2 of each." in card.sections["Pictures"]
    assert "32 x 32 px (4)" in card.sections["What they are like"]
    assert "<script>" not in "".join(card.sections.values())


def test_nothing_readable_is_no_reason_to_fail():
    card = image_card_sections(without_pictures(), Tally(), None)
    assert card.pictures == {} and "What they are like" not in card.sections and "Samples" not in card.sections


@pytest.mark.parametrize("pictures", [1, 30])
def test_grids_stay_small_and_as_wide_as_a_card(pictures):
    rows = [(NASTY * 3, "猫" * 90, [encoded(120, seed)["bytes"] for seed in range(pictures)])] * 8
    contents = caption_grid([*rows[:7], ("", "", rows[0][2])])
    image = Image.open(io.BytesIO(contents))
    assert image.format == "PNG" and image.width == 1200 and len(contents) <= LARGEST
    pixels = np.asarray(image)
    assert pixels[:, -20:-8].std() > 30  # pictures stand at the right
    left = 1200 - min(pictures, 6) * 140  # texts end before them, and nothing stands between two
    assert pictures > 1 or (pixels[:, left - 8 : left] == 255).all()
