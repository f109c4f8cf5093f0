import threading
import time
import weakref

import numpy as np
import pytest
from PIL import Image

from synclr_hf.images import encoding
from synclr_hf.images.encoding import Encoder, in_order, reduced


def pictures(count, size=(48, 40)):
    random = np.random.default_rng(0)
    for _ in range(count):
        yield Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8))


@pytest.mark.parametrize("image_format", ["jpeg", "webp"])
def test_threads_give_the_same_bytes_in_the_same_order(image_format):
    encoder = Encoder(32, image_format, 90)
    in_line = [done.data for done in in_order(encoder, pictures(150), threads=0)]
    threaded = [done.data for done in in_order(encoder, pictures(150), threads=4)]
    assert threaded == in_line and len(set(in_line)) == 150


def test_reduced_once_with_antialiasing_to_the_middle():
    wide = Image.new("RGB", (96, 64))
    wide.paste("red", (16, 0, 80, 64))
    middle = np.asarray(reduced(wide, 32))
    assert middle.shape == (32, 32, 3) and middle[..., 0].min() > 200 and not middle[..., 1:].any()
    stripes = Image.fromarray(np.tile(np.array([[[0], [255]]], dtype=np.uint8), (64, 32, 3)))
    assert np.ptp(np.asarray(reduced(stripes, 16))[4:-4, 4:-4]) < 8, "even grey, no moire"
    assert reduced(stripes, 64) is stripes


def test_the_next_picture_is_drawn_while_the_last_one_is_encoded():
    encoding_now = threading.Event()

    def slow(number):
        encoding_now.set()
        time.sleep(0.05)
        return threading.current_thread().name

    def draw():
        yield 0
        assert encoding_now.wait(5), "nothing is encoded while this one is drawn"
        yield 1

    names = list(in_order(slow, draw(), threads=2))
    assert all(name.startswith("encoding") for name in names)
    assert list(in_order(slow, draw(), threads=0)) == [threading.current_thread().name] * 2


def test_few_pictures_wait_however_many_are_drawn(monkeypatch):
    monkeypatch.setattr(encoding, "WINDOW", 8)
    alive, most = set(), 0

    def draw():
        nonlocal most
        for number, picture in enumerate(pictures(100, (16, 16))):
            alive.add(number)
            weakref.finalize(picture, alive.discard, number)
            most = max(most, len(alive))
            yield picture

    def slow(picture):
        time.sleep(0.001)
        return picture.size

    assert len(list(in_order(slow, draw(), threads=2))) == 100
    assert 2 < most <= 8 + 2 + 2  # waiting, in the hands of the threads, and in those of the loops


@pytest.mark.parametrize("threads", [0, 3])
def test_errors_reach_the_caller_and_no_thread_stays(threads):
    before = threading.active_count()
    with pytest.raises(RuntimeError, match=r"drew RGB \(48, 40\), not RGB \(64, 64\)"):
        list(in_order(Encoder(64, "jpeg", 95), pictures(9, (40, 48)), threads=threads))
    with pytest.raises(RuntimeError, match=r"drew L \(64, 64\)"):
        list(in_order(Encoder(64, "jpeg", 95), [Image.new("L", (64, 64))], threads=threads))

    def broken():
        yield from pictures(3)
        raise MemoryError("while drawing")

    with pytest.raises(MemoryError, match="while drawing"):
        list(in_order(Encoder(32, "jpeg", 95), broken(), threads=threads))
    left_early = in_order(Encoder(32, "jpeg", 95), pictures(9), threads=threads)
    next(left_early)
    left_early.close()
    assert threading.active_count() == before
