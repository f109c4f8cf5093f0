import io

import matplotlib
import numpy as np
import pytest
from PIL import Image

from synclr_hf.data.plots import bar_plot, histogram_plot

ACCENT = (0x0B, 0x6E, 0x69)


def pixels(picture):
    image = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)
    assert image.shape[1] == 1200
    return image


def bar_lengths(picture):
    """Return the length in pixels of each bar, from top to bottom."""
    filled = (abs(pixels(picture) - ACCENT).max(axis=2) < 3).sum(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], filled > 0, [0]])))
    return [int(np.median(filled[top:bottom])) for top, bottom in zip(edges[::2], edges[1::2], strict=True)]


def test_bars_are_as_long_as_their_numbers_and_keep_their_order():
    first, second, third = bar_lengths(bar_plot([("a", 100), ("b", 50), ("c", 200)], axis="draws"))
    assert first / third == pytest.approx(0.5, abs=0.01) and second / third == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize(
    "label", ["W" * 10_000, "猫が🐱" * 9, "$x^2$", "\\frac{1}{$", "مرحبا", "\n\x00\x1b", "", "{:,.0f} %s"]
)
def test_any_label_can_be_drawn_and_leaves_room_for_the_bars(label):
    assert bar_lengths(bar_plot([(label, 3)], axis="draws"))[0] > 400


@pytest.mark.parametrize("numbers", [[0], [1], [1_234_567_890, 1], [0.01, 0.0]])
def test_any_number_can_be_drawn_inside_the_picture(numbers):
    image = pixels(bar_plot([(f"bar {number}", number) for number in numbers], axis="draws"))
    edge = np.concatenate([image[:2].ravel(), image[-2:].ravel(), image[:, :2].ravel(), image[:, -2:].ravel()])
    assert edge.min() == 255, "nothing is cut off"


@pytest.mark.parametrize("counts", [{0: 1}, {7: 3}, {3: 1, 60: 1}, {1: 4, 20: 100, 10_000: 3}])
def test_any_range_makes_a_histogram(counts):
    image = pixels(histogram_plot(counts, axis="tokens", what="captions", limit=(57.75, "a limit")))
    marked = (abs(image - (0xB3, 0x40, 0x1F)).max(axis=2) < 60).any()
    assert marked == (max(counts) > 40) and (abs(image - ACCENT).max(axis=2) < 3).any()


def test_the_users_settings_of_matplotlib_change_nothing_and_are_left_alone():
    def pictures():
        return bar_plot([("a", 1)], axis="draws"), histogram_plot({3: 1}, axis="words", what="captions")

    plain = pictures()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "savefig.dpi": 20}):
        before = dict(matplotlib.rcParams)
        assert pictures() == plain
        assert dict(matplotlib.rcParams) == before
