import json
import math
import re
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as PilImage
from transformers import Dinov2Config, Dinov2Model

from synclr_hf.evaluation.labelled.labelled_images import labelled_pictures
from synclr_hf.report.content import CaptionPictures, FeatureMaps, Neighbour, NeighbourRow, ReportContent
from synclr_hf.report.page import render_page
from synclr_hf.report.pictures import jpeg_uri, map_uri
from synclr_hf.report.stage import build_report, check_facts, choose_captions, finite, write_report
from synclr_hf.report.wording import duration, headline

TOP1 = {"trained": 0.512, "untrained": 0.2, "pixels": 0.25}


def make_facts(**changes):
    facts = {
        "evaluation": {
            "knn_top1": TOP1,
            "linear_top1": {**TOP1, "trained": 0.6},
            "knn_top1_by_k": {name: {"1": 0.4, "10": value} for name, value in TOP1.items()},
            "intervals": {"knn_top1": {"trained": [0.48, 0.55]}, "linear_top1": {}},
            "num_train": 1200,
            "num_test": 600,
            "num_classes": 48,
            "chance": 1 / 48,
        },
        "seconds": {"captions": 2.0, "images": 30.5, "pretraining": 400.0},
        "peak_memory_gib": 2.5,
        "config": {"seed": 3, "folder": "<b>out</b>"},
        "seed": 3,
        "machine": {"processor": "two cores"},
    }
    return {**facts, **changes}


def picture(seed=0, size=40):
    return PilImage.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))


def make_content(caption="a red owl", label="owl", **changes):
    row = NeighbourRow(
        picture(1), label, [Neighbour(picture(2), label, 0.91, True), Neighbour(picture(3), "kite", 0.5, False)]
    )
    maps = np.random.default_rng(0).random((2, 4, 4, 3))
    content = {
        "facts": make_facts(),
        "captions": [CaptionPictures(caption, label, [picture(seed) for seed in range(4)])],
        "history": [{"step": step, "loss": 5.0 / step, "ibot": 3.0} for step in (1, 2, 3)],
        "neighbours": [row],
        "feature_maps": FeatureMaps(
            [picture(5), picture(6)],
            [label, label],
            {"trained": maps, "untrained": maps},
            {"trained": 0.6, "untrained": 0.4},
        ),
    }
    return ReportContent(**{**content, **changes})


class Page(HTMLParser):
    """Collects tags, ids, sources and text of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.ids, self.sources, self.images, self.text, self.open = [], set(), [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.ids |= {attributes["id"]} if "id" in attributes else set()
        self.sources += [
            value for name, value in attributes.items() if name in ("src", "href", "data", "poster", "srcset")
        ]
        if tag == "img":
            self.images.append(attributes)
        if tag not in ("img", "meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_page_is_whole_and_loads_nothing_from_elsewhere():
    html = render_page(make_content())
    page = Page(html)
    assert page.open == []
    assert {"evaluation", "captions", "neighbours", "maps", "curves", "cost", "config"} <= page.ids
    assert page.tags.count("h1") == 1 and page.tags.count("h2") == 7
    assert page.sources and all(source.startswith(("data:", "#")) for source in page.sources)
    assert {source[1:] for source in page.sources if source.startswith("#")} <= page.ids
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttpRequest", html)
    assert len(page.images) == 4 + 3 + 2 * 3 and all(image["alt"] for image in page.images)
    assert page.tags.count("svg") == 2


def test_numbers_and_marks_are_on_the_page():
    text = " ".join("".join(Page(render_page(make_content())).text).split())
    for expected in (
        "51.2 %",
        "60.0 %",
        "25.0 %",
        "48.0 to 55.0",
        "Chance 2.1 %",
        "1,200 labelled and 600 test",
        "✓ 0.91",
        "✗ 0.50 kite",
        "1 of 2 neighbours",
    ):
        assert expected in text


def test_texts_of_the_run_are_escaped():
    bad = "<script>alert('x')</script>\"'&"
    content = make_content(
        caption=bad,
        label=bad,
        facts=make_facts(machine={bad: bad}),
        history=[{"step": 1, bad: 1}, {"step": 2, bad: 2}],
    )
    html = render_page(content)
    assert "<script>alert" not in html and "<b>out" not in html
    page = Page(html)
    assert page.tags.count("script") == 1
    assert bad in "".join(page.text)


def test_page_without_optional_parts():
    facts = {
        "evaluation": {"knn_top1": TOP1, "linear_top1": TOP1},
        "seconds": {},
        "peak_memory_gib": None,
        "config": {},
        "seed": 0,
    }
    page = Page(render_page(ReportContent(facts=facts)))
    assert page.images == [] and "The training log is empty." in "".join(page.text)


def test_further_data_sets_get_their_own_table():
    results = {"knn_top1": TOP1, "linear_top1": TOP1}
    page = Page(render_page(make_content(facts=make_facts(other_evaluations={"birds": results}))))
    assert "birds" in page.text and page.tags.count("article") == 2


def test_report_json_is_readable_and_complete(tmp_path):
    facts = make_facts(peak_memory_gib=math.nan, config={"path": tmp_path, "rate": math.inf, "sizes": (1, 2)})
    assert write_report(tmp_path / "new" / "folder", make_content(facts=facts)).name == "report.html"
    stored = json.loads((tmp_path / "new" / "folder" / "report.json").read_text())
    assert stored["evaluation"]["knn_top1"] == TOP1
    assert {"trained", "untrained", "pixels"} <= set(stored["evaluation"]["linear_top1"])
    assert stored["seconds"]["images"] == 30.5 and stored["seed"] == 3
    assert stored["peak_memory_gib"] is None and stored["config"] == {
        "path": str(tmp_path),
        "rate": None,
        "sizes": [1, 2],
    }
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "curves.svg",
        "report.html",
        "report.json",
    ]


def test_missing_facts_are_named():
    facts = make_facts()
    del facts["seconds"]
    facts["evaluation"] = {"knn_top1": TOP1}
    with pytest.raises(ValueError, match="lack: seconds, evaluation.linear_top1.trained"):
        check_facts(facts)


def test_headline_does_not_flatter():
    results = {"knn_top1": {"trained": 0.2, "untrained": 0.25, "pixels": 0.2}}
    assert "5.0 points fewer than the same encoder untrained and as many as raw pixels" in headline(results)


def test_durations_and_finite():
    assert [duration(value).replace("\u202f", " ") for value in (0.04, 59.6, 61, 7260)] == [
        "0.0 s",
        "1 min 00 s",
        "1 min 01 s",
        "2 h 01 min",
    ]
    assert finite({"a": [math.nan, {"b": -math.inf}], 1: True}) == {"a": [None, {"b": None}], "1": True}


def test_pictures_are_reduced_and_maps_are_exact():
    shown = PilImage.open(BytesIO(b64decode(jpeg_uri(picture(size=300).crop((0, 0, 300, 200)), 64).partition(",")[2])))
    assert shown.format == "JPEG" and shown.size == (64, 64)
    colours = np.array([[[0.0, 0.5, 1.0], [math.nan, 2.0, -1.0]]])
    stored = np.asarray(PilImage.open(BytesIO(b64decode(map_uri(colours).partition(",")[2]))))
    assert stored.tolist() == [[[0, 128, 255], [0, 255, 0]]]


def encoded(image):
    file = BytesIO()
    image.save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def images_set(concepts, broken=()):
    rows = [
        {
            "caption": f"caption {number}",
            "concept": concept,
            "images": [{"bytes": b"broken", "path": None} if number in broken else encoded(picture(number, 16))] * 2,
        }
        for number, concept in enumerate(concepts)
    ]
    return Dataset.from_list(
        rows, features=Features({"caption": Value("string"), "concept": Value("string"), "images": List(Image())})
    )


def test_captions_are_balanced_repeatable_and_readable():
    images = images_set(["owl"] * 20 + ["kite"] * 3 + ["pear"] * 3, broken={20})
    chosen = choose_captions(images, seed=1, count=6)
    assert sorted(item.concept for item in chosen) == ["kite", "kite", "owl", "owl", "pear", "pear"]
    assert "caption 20" not in {item.caption for item in chosen}
    assert [item.caption for item in chosen] == [item.caption for item in choose_captions(images, seed=1, count=6)]
    assert len(choose_captions(images, seed=1, count=99)) == 25


def test_whole_report_from_encoders_and_data(tmp_path):
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, patch_size=8, image_size=32)
    encoders = {"trained": Dinov2Model(config), "untrained": Dinov2Model(config)}
    names = ["a", "b", "c"]
    train = labelled_pictures([picture(seed) for seed in range(12)], [seed % 3 for seed in range(12)], names)
    mixed = [picture(20), b"broken", *(picture(seed) for seed in range(21, 28))]
    test = labelled_pictures(mixed, [seed % 3 for seed in range(9)], names)
    path = build_report(
        tmp_path,
        facts=make_facts(),
        images=images_set(["owl", "kite"]),
        history=[{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}],
        encoders=encoders,
        train=train,
        test=test,
        cache_dir=tmp_path / "features",
    )
    page = Page(path.read_text(encoding="utf-8"))
    # 2 captions x 2 pictures, 8 queries (one of 9 is broken) x (1 + 6 neighbours), 8 pictures x (1 + 2 maps)
    assert len(page.images) == 2 * 2 + 8 * 7 + 8 * 3
    assert "8 × 8 patches a picture" in "".join(page.text)
