"""Reading captions: any sentence with known words becomes a `Scene`, and a seed makes it a `DrawnScene`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import lru_cache

from synclr_hf.errors import UserInputError
from synclr_hf.toyworld.attributes import DrawnScene, DrawnThing, Scene
from synclr_hf.toyworld.full_frames import FULL_FRAMES
from synclr_hf.toyworld.lexicon import Entry, known_nouns, read, tokens
from synclr_hf.toyworld.sampling import sample

__all__ = ["DrawnScene", "DrawnThing", "Scene", "parse_caption", "sample"]

_PATTERNS = {"polka dots": "dotted", "stripes": "striped", "checkerboard": "checkered", "zigzags": "zigzag"}


@dataclass
class _Noun:
    """One mention of a thing, with the words that describe it."""

    name: str
    words: dict[str, str | int] = field(default_factory=dict)


class _Reader:
    """Goes through the phrases of a caption once, from left to right.

    The first thing is the main one, the thing behind a relation the second one ("behind a rock stands a mushroom"
    turns them round). Adjectives belong to the next noun, or to the last one where no noun follows before a relation
    or the end.
    """

    def __init__(self) -> None:
        self.main: _Noun | None = None
        self.second: _Noun | None = None
        self.last: _Noun | None = None
        self.relation: str | None = None
        self.open_relation: str | None = None
        self.background: str | None = None
        self.light: str | None = None
        self.pending: dict[str, str | int] = {}

    def take(self, entry: Entry) -> None:
        """Read one phrase."""
        if entry.kind == "thing":
            self._take_thing(entry)
        elif entry.kind == "relation":
            self._describe_last()
            self.open_relation = str(entry.value)
        elif entry.kind == "background":
            if self.open_relation is None:
                self._describe_last()
            self.background = self.background or str(entry.value)
            self.pending, self.open_relation = {}, None
        elif entry.kind == "light":
            self.light = self.light or str(entry.value)
        elif entry.kind == "pattern":
            self._take_pattern(str(entry.value))
        elif entry.kind == "the":
            self.pending.pop("article", None)
        else:
            self.pending[entry.kind] = entry.value

    def _take_thing(self, entry: Entry) -> None:
        name = str(entry.value)
        if name in FULL_FRAMES and self.main is not None:
            self._take_pattern(_PATTERNS.get(name))
            return
        noun = _Noun(name, self.pending)
        if entry.plural:
            noun.words.pop("article", None)
            if "count" not in noun.words:
                noun.words["several"] = 1
        if self.open_relation and self.second is None and name not in FULL_FRAMES:
            self.second, self.relation = noun, self.open_relation
        elif self.main is None:
            self.main = noun
        self.last, self.pending, self.open_relation = noun, {}, None

    def _take_pattern(self, texture: str | None) -> None:
        if self.last is not None and texture:
            self.last.words.setdefault("texture", texture)
        self.pending = {}

    def _describe_last(self) -> None:
        if self.last is not None:
            for kind in ("colour", "texture", "size"):
                if kind in self.pending:
                    self.last.words.setdefault(kind, self.pending[kind])
        self.pending = {}

    def scene(self) -> Scene | None:
        """Return what was read, or `None` if no thing was named."""
        self._describe_last()
        main, second = self.main, self.second
        if main is None:
            main, second = second, None
        if main is None:
            return None
        scene = Scene(main.name, background=self.background, light=self.light)
        if main.name in FULL_FRAMES:
            textured = FULL_FRAMES[main.name].kind == "texture"
            return replace(scene, background=None, colour=main.words.get("colour") if textured else None)
        count = main.words.get("count") or (main.words.get("article") if "several" not in main.words else None)
        words = {kind: main.words.get(kind) for kind in ("colour", "texture", "size")}
        scene = replace(scene, count=count, several="several" in main.words and not main.words.get("count"), **words)
        if second is None:
            return scene
        colour = second.words.get("colour")
        return replace(scene, relation=self.relation, second=second.name, second_colour=colour)


@lru_cache(maxsize=1024)
def parse_caption(caption: str) -> Scene:
    """Read what a caption states.

    Any sentence will do that names a known thing; words that are not known are skipped. Numbers are read up to six.

    Raises:
        UserInputError: no known thing is named.
    """
    reader = _Reader()
    for entry in read(caption):
        reader.take(entry)
    scene = reader.scene()
    if scene is None:
        shown = caption if len(caption) <= 80 else caption[:77] + "..."
        raise UserInputError(
            f"the caption {shown!r} names nothing that the toy world can draw{_hint(caption)}; name one of its "
            f"things, e.g. 'a red mushroom in a forest', or use an image generator other than 'toy'"
        )
    return scene


def _hint(caption: str) -> str:
    """Name known things that are spelt like the caption's words."""
    near = [
        match for word in tokens(caption)[:40] for match in get_close_matches(word, known_nouns(), n=1, cutoff=0.75)
    ]
    return f" (did you mean {', '.join(repr(name) for name in dict.fromkeys(near))}?)" if near else ""
