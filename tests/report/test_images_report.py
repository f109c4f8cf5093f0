import json
import re
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from image_sets import CONCEPTS, encoded, write_images
from PIL import Image as PilImage
from transformers import ViTConfig, ViTForImageClassification

from synclr_hf.cli.main import main
from synclr_hf.data.schemas import image_features
from synclr_hf.errors import UserInputError
from synclr_hf.report.columns import histogram_svg
from synclr_hf.report.images_stage import ImagesReportConfig, write_images_report

BAD = "<script>alert('x')</script>\"'&"


class Page(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.ids, self.links, self.images, self.text, self.open = [], [], [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes["href"]] if tag == "a" else []
        self.images += [attributes] if tag == "img" else []
        if tag not in ("meta", "link", "img", "br", "line", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("line", "rect"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("set") / "images", rows=20, rows_per_shard=10)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    config = ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=16, patch_size=8
    )
    config.id2label = dict(enumerate([*CONCEPTS[:2], BAD]))
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "classifier"
    ViTForImageClassification(config).save_pretrained(folder)
    return str(folder)


def test_the_command_writes_a_page_that_needs_nothing_else(images, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["images-report", str(images), "--output", str(tmp_path / "report"), "--sample", "1k"])
    assert ended.value.code == 0 and f"report: {tmp_path / 'report' / 'report.html'}" in capsys.readouterr().out
    html = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    page, text = Page(html), " ".join(Page(html).text)
    assert page.open == [] and "script" not in page.tags and not re.search(r"(src|href)=.(?!data:|#)", html)
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids) and len(set(page.ids)) == len(page.ids)
    assert len(page.images) == 2 * 12 * 2 and all(image["alt"] for image in page.images)  # at random, least varied
    shown = PilImage.open(BytesIO(b64decode(page.images[0]["src"].partition(",")[2])))
    assert shown.format == "JPEG" and shown.size == (40, 40)
    for told in ("images: 40 pictures of 20 captions.", "Least varied", "Caption 3.", "distance ", "bell"):
        assert told in text
    assert "Lowest scores" not in text and "Recognised" not in text


def test_report_json_has_the_numbers_of_the_page(images, tmp_path):
    write_images_report(ImagesReportConfig(str(images), str(tmp_path), sample=5))
    facts = json.loads((tmp_path / "report.json").read_text())
    assert (facts["rows"], facts["pictures"], facts["sample"]["rows"], facts["sample"]["pictures"]) == (20, 40, 5, 10)
    assert facts["concepts"] == {"hat": 14, "mug": 14, "bell": 12} and facts["pictures_per_caption"] == {"2": 20}
    distances = [row["distance"] for row in facts["sample"]["least_varied"]]
    assert distances == sorted(distances) and len(distances) == 5
    within = facts["sample"]["within"]
    assert within["p5"] <= within["median"] <= within["p95"] and distances[0] <= within["mean"] <= distances[-1]
    assert facts["recognition"] is None and facts["config"]["sample"] == 5


def test_recognisability_stands_on_the_page(images, classifier, tmp_path):
    config = ImagesReportConfig(str(images), str(tmp_path), classifier=classifier, labelled=str(images))
    html = write_images_report(config).read_text(encoding="utf-8")
    facts = json.loads((tmp_path / "report.json").read_text())["recognition"]
    text = " ".join(Page(html).text)
    for side in ("drawn", "real"):
        assert f"{100 * facts[side]['recognisability']:.1f}\u202f%" in text
        assert f"{facts[side]['diversity']:.4f}" in text
    assert "1 concept unknown to the classifier: bell" in text and facts["drawn"]["classes"] == 2
    assert "Recognised and varied" in text


def test_texts_of_a_set_are_escaped_and_scores_are_shown(tmp_path):
    (tmp_path / "set" / "data").mkdir(parents=True)
    row = {
        "caption": BAD,
        "concept": BAD,
        "source": BAD,
        "images": [encoded(1), encoded(2), {"bytes": b"broken", "path": None}],
        "seeds": [1, 2, 3],
        "guidance_scale": 2.5,
        "provenance": json.dumps({BAD: BAD, "generator": BAD}),
        "scores": [0.2, 0.3, 0.1],
    }
    table = pa.Table.from_pylist(
        [{"caption_id": n, **row} for n in range(2)], schema=image_features(scores=True).arrow_schema
    )
    pq.write_table(table, tmp_path / "set/data/train-00000.parquet")
    html = write_images_report(ImagesReportConfig(str(tmp_path / "set"), str(tmp_path))).read_text(encoding="utf-8")
    page = Page(html)
    text = "".join(page.text)
    assert "<script" not in html and BAD in text
    assert "Lowest scores" in text and "score 0.100" in text and "Unreadable" in text
    assert "Not told here" in text and len(page.images) == 3 * 2 * 2


def test_what_cannot_be_used_is_told_in_a_line(images, classifier, tmp_path):
    def told(where=images, **settings):
        with pytest.raises(UserInputError) as error:
            write_images_report(ImagesReportConfig(str(where), **{"output": str(tmp_path / "report"), **settings}))
        return str(error.value)

    (tmp_path / "file").write_text("")
    assert "does not exist; make it first: type synclr images" in told(tmp_path / "nothing")
    assert "is a file; type the name of a folder" in told(output=str(tmp_path / "file"))
    assert "--sample 0 cannot be used" in told(sample=0)
    assert "--encoder alone recognises nothing" in told(encoder="org/name")
    assert "cannot be loaded" in told(classifier=str(tmp_path / "nothing"))
    broken = write_images(tmp_path / "broken", rows=3, images=1, broken={0, 1, 2})
    assert "none of the pictures of 3 captions" in told(broken)
    assert not (tmp_path / "report").exists()
    assert ImagesReportConfig("org/bird-images@main").output == "outputs/bird-images-report"


@pytest.mark.slow
def test_a_set_on_the_hub_is_looked_at_without_storing_it(hub, images, tmp_path):
    files = {str(path.relative_to(images)): path.read_bytes() for path in images.rglob("*.*") if path.is_file()}
    hub.add("org/pictures", {name: data for name, data in files.items() if "data/" in name}, "dataset")
    asked = f"['images-report', 'org/pictures', '--output', {str(tmp_path / 'report')!r}]"
    hub.python(
        f"from synclr_hf.cli.main import main\ntry:\n  main({asked})\nexcept SystemExit as e: assert e.code == 0"
    )
    facts = json.loads((tmp_path / "report/report.json").read_text())
    assert facts["pictures"] == 40 and facts["cost"] == {} and not list(hub.folder.rglob("*.parquet"))
    assert "Not told here" in (tmp_path / "report/report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("counts", [{7: 3}, {-2: 1, 5: 1}, {n: n + 1 for n in range(500)}])
def test_histograms_stay_in_their_frame(counts):
    svg = str(histogram_svg(counts, title="a<b", divisor=100))
    places = [
        (float(x), float(y), float(w), float(h))
        for x, y, w, h in re.findall(
            r'<rect class="column" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', svg
        )
    ]
    assert 1 <= len(places) <= 36 and all(x >= 46 and x + w <= 310.5 and y >= 10 for x, y, w, _ in places)
    assert all(abs(y + h - 152) < 0.2 for _, y, _, h in places) and "a&lt;b" in svg
