import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synclr_hf.captions import statistics
from synclr_hf.captions.prompt_tokens import TokenCounter
from synclr_hf.captions.statistics import NUM_EXAMPLES, caption_statistics
from synclr_hf.data.schemas import caption_features

ROOT = Path(__file__).parents[2]


def row(caption_id, caption="An owl.", concept="owl", source="birds", template="concept"):
    told = {"background": None, "relation": None, "language_model": "m", "seed": 7}
    return {
        "caption_id": caption_id,
        "caption": caption,
        "concept": concept,
        "source": source,
        "template": template,
        **told,
    }


def sample_statistics(captions):
    return statistics.sample_statistics(captions, TokenCounter())


def shards(folder, rows, size=10):
    files = []
    for start in range(0, len(rows), size):
        files.append(folder / f"train-{start:05d}.parquet")
        table = pa.Table.from_pylist(rows[start : start + size], schema=caption_features().arrow_schema)
        pq.write_table(table, files[-1])
    return files


def test_counts_over_all_rows(tmp_path):
    rows = [
        row(0, "An owl sits here.", "owl"),
        row(1, "An owl sits here.", "owl", template="relation"),
        row(2, "Two words", "wren"),
        row(3, "An  owl\tsits here.", "owl", source="others"),
        row(4, "", "wren", template="relation"),
    ]
    told = caption_statistics(shards(tmp_path, rows, size=2))
    assert told.rows == 5
    assert list(told.sources.items()) == [("birds", 4), ("others", 1)]
    assert list(told.templates.items()) == [("concept", 3), ("relation", 2)]
    assert list(told.concepts.items()) == [("owl", 3), ("wren", 2)] and told.language_models == {"m": 5}
    assert list(told.lengths.items()) == [(0, 1), (2, 1), (4, 3)]
    assert told.duplicates == pytest.approx(0.2) and told.duplicates_part == 1, "letter by letter"


def test_diversity_by_hand():
    told = sample_statistics(["A cat sat.", "a CAT sat down!", "Red dog runs fast."])
    assert (told.rows, told.vocabulary, told.probes) == (3, 8, 3)
    assert told.tokens == {6: 1, 7: 2}, "a word or mark each, and two special ones"
    assert told.distinct == pytest.approx((8 / 11, 6 / 8, 4 / 5))
    assert told.nearest_mean == pytest.approx((2 / 3 + 2 / 3 + 0) / 3), "two word pairs of three are shared"
    assert told.nearest_high == pytest.approx(2 / 3)
    assert told.begin_alike == pytest.approx(2 / 3)
    assert told.openings == (("a cat sat", pytest.approx(2 / 3)), ("red dog runs", pytest.approx(1 / 3)))
    assert [word for word, _ in told.words] == ["cat", "sat", "dog", "fast", "red", "runs"], "without stop words"
    assert told.words[0][1] == pytest.approx(2 / 3)


def test_a_word_counts_once_a_caption():
    told = sample_statistics(["owl owl owl", "wren"])
    assert dict(told.words) == {"owl": 0.5, "wren": 0.5}


@pytest.mark.parametrize("caption", ["Cat", "", "🐱", "猫"])
def test_one_caption_has_no_nearest(caption):
    told = sample_statistics([caption])
    assert told.nearest_mean is None and told.nearest_high is None and told.distinct[2] is None
    assert told.begin_alike == 0


def test_equal_captions_are_nearest_even_without_a_word_pair():
    told = sample_statistics(["Cat", "cat.", "dog"])
    assert told.nearest_mean == pytest.approx(2 / 3) and told.nearest_high == 1


def test_the_nearest_is_what_comparing_all_pairs_finds():
    dice = random.Random(0)
    captions = [" ".join(dice.choices("abcdef", k=dice.randint(1, 7))) for _ in range(60)]

    def pairs(caption):
        words = caption.split()
        return set(zip(words, words[1:], strict=False)) or {tuple(words)}

    sets = [pairs(caption) for caption in captions]
    best = [
        max(len(one & other) / len(one | other) for place, other in enumerate(sets) if place != here)
        for here, one in enumerate(sets)
    ]
    assert sample_statistics(captions).nearest_mean == pytest.approx(sum(best) / 60)


def test_the_sample_is_spread_over_all_shards(tmp_path, monkeypatch):
    files = shards(tmp_path, [row(number, f"Owl number {number}.") for number in range(100)])
    monkeypatch.setattr(statistics, "_BLOCK_ROWS", 7)
    told = caption_statistics(files, sample_rows=10)
    assert told.sample.rows == 10 and told.rows == 100
    assert [one["caption_id"] for one in told.examples] == list(range(5, 100, 10)), "one of each shard"


def test_the_files_decide_and_not_how_they_are_cut(tmp_path):
    rows = [
        row(n, f"Owl {n % 30} sits on branch {n % 7}.", template=("concept", "relation")[n % 2]) for n in range(90)
    ]
    (tmp_path / "few").mkdir()
    whole = caption_statistics(shards(tmp_path / "few", rows, size=90), sample_rows=40)
    assert caption_statistics(shards(tmp_path, rows, size=7), sample_rows=40) == whole
    other = caption_statistics(shards(tmp_path, rows, size=7), sample_rows=40, seed=1)
    assert other.examples != whole.examples and other.sample == whole.sample


def test_examples_come_from_every_source_and_template(tmp_path):
    templates = ("concept", "relation", "background")
    sources = ["large" if n % 50 else "small" for n in range(500)]
    rows = [row(n, f"Owl {n}.", source=sources[n], template=templates[n % 3]) for n in range(500)]
    examples = caption_statistics(shards(tmp_path, rows, size=100)).examples
    assert len(examples) == NUM_EXAMPLES == len({one["caption_id"] for one in examples})
    assert [one["source"] for one in examples].count("small") == 6
    assert all([one["template"] for one in examples].count(name) == 4 for name in templates)


def test_few_rows_are_all_shown(tmp_path):
    assert len(caption_statistics(shards(tmp_path, [row(0), row(1), row(2)])).examples) == 3


def test_duplicates_are_estimated_where_captions_are_too_many_to_remember(tmp_path, monkeypatch):
    monkeypatch.setattr(statistics, "_DISTINCT_HELD", 100)
    monkeypatch.setattr(statistics, "_BLOCK_ROWS", 50)
    twice = [row(n, f"Owl number {n // 2}.") for n in range(2000)]
    told = caption_statistics(shards(tmp_path, twice, size=100))
    assert told.duplicates == pytest.approx(0.5) and told.duplicates_part >= 10, "equal ones stay together"


def test_no_rows_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no captions"):
        caption_statistics(shards(tmp_path, [row(0)])[:0])


PEAK = """
import resource, sys
from pathlib import Path
from synclr_hf.captions.statistics import caption_statistics
told = caption_statistics(sorted(Path(sys.argv[1]).glob("*.parquet")), sample_rows=2000)
print(told.rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_rows(tmp_path):
    peaks = []
    for count in (200_000, 800_000):
        folder = tmp_path / str(count)
        folder.mkdir()
        for start in range(0, count, 20_000):
            rows = [row(n, f"A caption of its own with the number {n} on it.") for n in range(start, start + 20_000)]
            pq.write_table(pa.Table.from_pylist(rows), folder / f"{start:09d}.parquet", row_group_size=256)
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(folder)], capture_output=True, text=True, check=True, cwd=ROOT
        )
        rows, peak = map(int, done.stdout.split())
        assert rows == count
        peaks.append(peak / 1024)
    assert peaks[1] - peaks[0] < 30, f"MB: {peaks}"
