from __future__ import annotations

from synclr_hf.toyworld.backgrounds import BACKGROUNDS
from synclr_hf.toyworld.bank import load_bank
from synclr_hf.toyworld.lexicon import OTHER_BACKGROUND_WORDS, entries
from synclr_hf.toyworld.palette import PALETTE
from synclr_hf.toyworld.textures import SURFACES, tile
from synclr_hf.toyworld.things import THINGS


def test_the_bank_is_large_and_its_names_are_unique():
    bank = load_bank()
    assert len(bank) >= 48
    assert len({concept.name for concept in bank}) == len(bank)
    assert {concept.source for concept in bank} == {"toyworld"}
    kinds = [concept.kind for concept in bank]
    assert kinds.count("object") >= 40 and kinds.count("texture") >= 5 and kinds.count("scene") >= 5


def test_objects_have_three_to_six_drawable_backgrounds():
    for concept in load_bank():
        if concept.kind == "object":
            assert 3 <= len(concept.backgrounds) <= 6
            assert set(concept.backgrounds) <= set(BACKGROUNDS)
        else:
            assert concept.backgrounds == ()


def test_every_part_has_a_paint_and_every_surface_a_tile():
    for thing in THINGS.values():
        assert {part.role for part in thing.parts} == set(thing.paints)
        assert {paint for names in thing.paints.values() for paint in names} <= set(PALETTE)
        assert thing.texture in {*SURFACES, "smooth"}
        assert abs(abs(thing.points).max() - 1) < 1e-9
    for name in SURFACES:
        assert abs(tile(name)).max() > 0.3


def test_no_two_phrases_share_their_words():
    nouns = [entry.value for entry in entries().values() if entry.kind == "thing"]
    assert set(THINGS) <= set(nouns)
    assert set(OTHER_BACKGROUND_WORDS) == set(BACKGROUNDS)
    assert max(len(words) for words in entries()) <= 6
