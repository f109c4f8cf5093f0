"""The concept bank of the toy world."""

from __future__ import annotations

from synclr_hf.concepts.concept import Concept
from synclr_hf.toyworld.full_frames import FULL_FRAMES
from synclr_hf.toyworld.things import THINGS

SOURCE = "toyworld"


def load_bank() -> tuple[Concept, ...]:
    """Return every concept of the toy world: things with their plausible backgrounds, then textures and scenes."""
    things = (Concept(one.name, SOURCE, "object", one.backgrounds) for one in THINGS.values() if one.in_bank)
    frames = (Concept(one.name, SOURCE, one.kind) for one in FULL_FRAMES.values())
    return (*things, *frames)
