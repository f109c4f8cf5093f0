import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from synclr_hf.data.schemas import image_features
from synclr_hf.images.samples import NUM_SHOWN, picture_sample
from synclr_hf.images.statistics import OTHER_VALUES, even_sample, image_rows, image_statistics


def encoded(level, size=24):
    file = io.BytesIO()
    Image.new("RGB", (size, size), (level,) * 3).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def row(number, levels=(0, 100), **changes):
    told = {"generator": "m", "scheduler": None, "steps": 20}
    return {
        "caption_id": number,
        "caption": f"Caption {number}.",
        "concept": f"thing {number % 3}",
        "source": "bank",
        "images": [encoded(level) for level in levels],
        "seeds": [1] * len(levels),
        "guidance_scale": 2.5,
        "provenance": json.dumps(told),
        **changes,
    }


def image_set(folder, *shards, scores=False, group=4):
    (folder / "data").mkdir()
    schema = image_features(scores=scores).arrow_schema
    for number, rows in enumerate(shards):
        table = pa.Table.from_pylist(rows, schema=schema)
        pq.write_table(table, folder / f"data/train-{number:05d}.parquet", row_group_size=group)
    return image_rows(folder)


def test_counts_are_of_pictures_and_shards_may_differ_in_everything(tmp_path):
    other = json.dumps({"generator": "n", "adapter": "lora", "nested": {"b": 1, "a": 2}})
    first = [row(0), row(1, (0, 1, 2)), row(2, concept=None)]
    second = [row(3, guidance_scale=None, provenance=other), row(4, provenance="no JSON"), row(5, provenance="[1]")]
    found = image_statistics(image_set(tmp_path, first, second))
    assert (found.rows, found.pictures, found.pictures_per_caption) == (6, 13, {2: 5, 3: 1})
    assert found.concepts == {"thing 1": 5, "thing 0": 4, "": 2, "thing 2": 2} and found.sources == {"bank": 13}
    assert found.made["generator"] == {"m": 7, "n": 2} and found.made["adapter"] == {"lora": 2}
    assert found.made["scheduler"] == {"": 7} and found.made["steps"] == {"20": 7}
    assert found.made["nested"] == {'{"a": 2, "b": 1}': 2} and found.made["guidance_scale"] == {"2.5": 11, "": 2}
    assert found.scores == {} and found.score_mean is None


def test_scores_of_all_rows(tmp_path):
    scores = [[0.25, -0.014], None, [float("nan"), 0.3]]
    rows = image_set(tmp_path, [row(n, scores=values) for n, values in enumerate(scores)], scores=True)
    found = image_statistics(rows)
    assert found.scores == {-2: 1, 25: 1, 30: 1} and found.score_mean == pytest.approx((0.25 - 0.014 + 0.3) / 3)
    assert [(shown.caption, round(shown.value, 3)) for shown in found.sample.lowest_scored] == [
        ("Caption 0.", -0.014),
        ("Caption 2.", 0.3),
    ]


def test_values_without_end_do_not_fill_the_memory(tmp_path):
    rows = [row(n, provenance=json.dumps({"file": f"{n}.png"})) for n in range(100)]
    found = image_statistics(image_set(tmp_path, rows), sample_rows=1).made["file"]
    assert len(found) == 65 and found[OTHER_VALUES] == 2 * 36 and sum(found.values()) == 200


def test_the_sample_by_numbers_of_the_hand():
    same, far = row(0, (50, 50)), row(1, (10, 40, 100))
    found = picture_sample([same, far, row(2, (7,)), row(3, ())])
    assert (found.rows, found.pictures, found.sizes) == (4, 6, {"24 x 24": 6})
    assert found.brightness.tolist() == [50, 50, 10, 40, 100, 7] and found.contrast.tolist() == [0] * 6
    assert found.within.tolist() == [0, (30 + 90 + 60) / 3]
    assert found.between.tolist() == [40, 3]
    assert [(shown.caption, shown.value) for shown in found.least_varied] == [("Caption 0.", 0), ("Caption 1.", 60)]
    assert sum(found.kilobytes.values()) == 6 and set(found.kilobytes) == {1}


def test_pictures_that_cannot_be_read_are_counted_and_passed_over():
    broken = [{"bytes": b"no picture", "path": None}, None, {"bytes": None, "path": "a.png"}]
    found = picture_sample([row(0, images=[*broken, encoded(9)]), row(1, images=broken), row(2, images=None)])
    assert (found.rows, found.pictures, found.unreadable) == (3, 1, 6) and len(found.within) == 0
    assert [len(shown.pictures) for shown in found.examples] == [1]


def test_examples_show_every_concept_before_one_comes_again():
    rows = [row(n, (n,), concept="many" if n < 30 else f"rare {n}") for n in range(33)]
    shown = picture_sample(rows, seed=1).examples
    assert len(shown) == NUM_SHOWN and len({one.caption for one in shown}) == NUM_SHOWN
    assert sorted(one.concept for one in shown)[-3:] == ["rare 30", "rare 31", "rare 32"]
    assert [one.caption for one in shown] == [one.caption for one in picture_sample(rows, seed=1).examples]
    assert [one.caption for one in shown] != [one.caption for one in picture_sample(rows, seed=2).examples]


def test_the_sample_is_even_and_reads_few_blocks(tmp_path):
    rows = image_set(tmp_path, [row(n, (n % 256,)) for n in range(300)], group=3)
    assert even_sample(rows, 1000) != list(range(300))  # 64 of the 100 blocks are looked at
    chosen = even_sample(rows, 60)
    assert len(chosen) == 60 and chosen == sorted(set(chosen)) and chosen[0] < 6 and chosen[-1] > 293
    assert max(np.diff(chosen)) <= 8 and len({place // 3 for place in even_sample(rows, 300)}) == 64


def test_columns_are_read_without_the_pictures(tmp_path):
    rows = image_set(tmp_path, [row(n) for n in range(6)], [row(6)])
    tables = list(rows.tables(["caption_id", "images"]))
    assert [number for table in tables for number in table["caption_id"].to_pylist()] == list(range(7))
    assert tables[0]["images"].to_pylist()[0] == [{"path": None}] * 2
    assert rows.has_column("seeds") and not rows.has_column("scores")
