"""Every thing that can be drawn, and how to find it by its name."""

from __future__ import annotations

from synclr_hf.toyworld.thing import Thing
from synclr_hf.toyworld.things_animals import ANIMALS
from synclr_hf.toyworld.things_food import FOOD
from synclr_hf.toyworld.things_household import HOUSEHOLD
from synclr_hf.toyworld.things_plants import PLANTS
from synclr_hf.toyworld.things_shapes import PROPS, SHAPES
from synclr_hf.toyworld.things_travel import BUILDINGS, VEHICLES

THINGS: dict[str, Thing] = {
    one.name: one for one in (*SHAPES, *PLANTS, *FOOD, *ANIMALS, *HOUSEHOLD, *BUILDINGS, *VEHICLES, *PROPS)
}
"""Name -> thing, in the order of the bank."""
