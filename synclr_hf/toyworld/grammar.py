"""The grammar that writes captions: every word of it is either drawable or says nothing about the picture."""

from __future__ import annotations

from dataclasses import dataclass

from synclr_hf.toyworld.backgrounds import BACKGROUNDS
from synclr_hf.toyworld.choice import Chooser
from synclr_hf.toyworld.full_frames import FULL_FRAMES, FullFrame
from synclr_hf.toyworld.lexicon import COUNT_WORDS, LIGHT_WORDS, SIZE_WORDS, TEXTURE_WORDS, plural_of
from synclr_hf.toyworld.palette import COLOUR_WORDS, colour_word
from synclr_hf.toyworld.sampling import COMPANIONS, CONTAINERS, SUPPORTS
from synclr_hf.toyworld.thing import BODY
from synclr_hf.toyworld.things import THINGS

_PLAIN_ADJECTIVES = ("lovely", "charming", "beautiful", "simple", "pretty", "fine", "cheerful", "neat", "familiar")
_LEADS = ("a photo of", "a picture of", "an image of", "a view of", "a scene with", "a drawing of", "a snapshot of")
_TELLING_LEADS = ("there is", "here is", "we see", "this is", "you can see")
_VERBS = (
    ("stands", "stand"), ("sits", "sit"), ("rests", "rest"), ("waits", "wait"), ("can be seen", "can be seen"),
    ("is shown", "are shown"), ("appears", "appear"), ("has been placed", "have been placed"),
    ("is waiting", "are waiting"), ("catches the eye", "catch the eye"), ("stays still", "stay still"),
    ("poses", "pose"),
)  # fmt: skip
_TAILS = (
    "all by itself", "as quiet as can be", "as if in a dream", "for everyone to see", "just as one knows it",
    "without any hurry", "right where it should be", "waiting for a visitor", "in plain view",
    "as if from a story", "ready for its portrait", "as it has always been", "at ease",
    "minding its own business", "in a calm mood", "on an ordinary day",
)  # fmt: skip
_TEXTURE_FRAMES = (
    "a pattern of {0}", "a surface covered with {0}", "{0} from edge to edge", "a close view of {0}", "{0} all over",
    "a photo of {0}", "a fabric with {0}", "{0} that repeat again and again", "a sheet of paper with {0}",
    "a picture of {0}", "a large surface of {0}", "{0} seen from close by", "a design of {0}", "the look of {0}",
    "{0} at an angle",
)  # fmt: skip
_SCENE_FRAMES = (
    "{0}", "a photo of {0}", "a wide view of {0}", "{0} seen from afar", "a picture of {0}", "a postcard with {0}",
    "a view across the land to {0}", "{0} fills the view", "{0} in the distance", "a painting of {0}",
    "we look at {0}", "a quiet day at {0}", "travellers stop to look at {0}", "a poster that shows {0}",
    "this is {0}",
)  # fmt: skip
_SCENE_ADJECTIVES = (
    "beautiful", "quiet", "famous", "distant", "lonely", "lovely", "great", "peaceful", "wild", "stunning",
)  # fmt: skip


@dataclass(frozen=True)
class Query:
    """What a prompt asks for.

    Args:
        thing: key of `THINGS` or `FULL_FRAMES`.
        noun: the word that the prompt uses for it.
        background: name of the place the caption has to be in.
        relation: relation to a second thing that the caption has to state.
    """

    thing: str
    noun: str
    background: str | None = None
    relation: str | None = None


@dataclass(frozen=True)
class Style:
    """How the examples of a prompt are written.

    Args:
        capital: they begin with a capital letter.
        full_stop: they end with a full stop.
        article: they begin with an article.
    """

    capital: bool = True
    full_stop: bool = True
    article: bool = True


def write_caption(query: Query, style: Style, chooser: Chooser) -> str:
    """Write one sentence about what the query asks for."""
    frame = FULL_FRAMES.get(query.thing)
    text = _write_about_thing(query, style, chooser) if frame is None else _write_about_frame(query, frame, chooser)
    text = text[0].upper() + text[1:] if style.capital else text
    return text + "." if style.full_stop else text


def _article(phrase: str) -> str:
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def _own_colours(thing: str) -> list[str]:
    return list(dict.fromkeys(colour_word(paint) for paint in THINGS[thing].paints[BODY]))


def _pick_colour(thing: str, chooser: Chooser) -> str:
    return chooser.pick(_own_colours(thing) if chooser.happens(0.68) else COLOUR_WORDS)


def _noun_phrase(query: Query, chooser: Chooser) -> tuple[str, bool]:
    """Return the main thing with its number and adjectives, and whether it is in the plural."""
    thing = THINGS[query.thing]
    count = 1 if query.relation else chooser.pick((1, 2, 3, 4), (0.76, 0.08, 0.08, 0.08))
    words = [chooser.pick(SIZE_WORDS[chooser.pick(tuple(SIZE_WORDS))])] if chooser.happens(0.17) else []
    if not words and chooser.happens(0.2):
        words.append(chooser.pick(_PLAIN_ADJECTIVES))
    if chooser.happens(0.17):
        words.append(chooser.pick(TEXTURE_WORDS[chooser.pick(tuple(TEXTURE_WORDS))]))
    colour, behind = None, ""
    if chooser.happens(0.3):
        colour = _pick_colour(query.thing, chooser)
        form = chooser.pick(("before", "painted", "that"), (0.8, 0.1, 0.1))
        behind = {
            "before": "",
            "painted": f" painted {colour}",
            "that": f" that {'is' if count == 1 else 'are'} {colour}",
        }[form]
        words += [] if behind else [colour]
    if count > 1:
        plural = thing.plural if query.noun == thing.name else plural_of(query.noun)
        return " ".join(
            [chooser.pick([w for w in COUNT_WORDS[count] if not w.isdigit()]), *words, plural]
        ) + behind, True
    phrase = " ".join([*words, query.noun])
    if chooser.happens(0.08):
        return f"{chooser.pick(('one', 'a single', 'a lone'))} {phrase}{behind}", False
    return _article(phrase) + behind, False


def _second_phrase(query: Query, chooser: Chooser) -> str:
    """Choose the second thing of a relation."""
    names: tuple[str, ...] = COMPANIONS
    if query.relation in ("in", "on"):
        names = CONTAINERS if query.relation == "in" else SUPPORTS
    elif chooser.happens(0.4):
        names = tuple(THINGS)
    name = chooser.pick([name for name in names if name != query.thing])
    words = [_pick_colour(name, chooser)] if chooser.happens(0.25) else []
    return _article(" ".join([*words, name]))


def _write_about_thing(query: Query, style: Style, chooser: Chooser) -> str:
    phrase, plural = _noun_phrase(query, chooser)
    verb = chooser.pick(_VERBS)[plural]
    relation = f" {query.relation} {_second_phrase(query, chooser)}" if query.relation else ""
    background = query.background
    if background is None and chooser.happens(0.45):
        plausible = THINGS[query.thing].backgrounds
        background = chooser.pick(plausible if chooser.happens(0.85) else tuple(BACKGROUNDS))
    place = chooser.pick(BACKGROUNDS[background].phrases, (3, 2, 2)) if background else ""
    light = chooser.pick(LIGHT_WORDS[chooser.pick(tuple(LIGHT_WORDS))]) if chooser.happens(0.16) else ""
    tail = "" if plural or (place or relation) and chooser.happens(0.85) else chooser.pick(_TAILS)
    behind = (f" {tail}" if tail else "") + (f" {place}" if place else "") + (f" {light}" if light else "")
    forms = ["plain", "lead", "verb"]
    weights = [3.0, 2.0, 3.0]
    if not style.article:
        forms.append("telling")
        weights.append(1.5)
    if place:
        forms.append("place first")
        weights.append(0.6 if style.article else 1.5)
    form = chooser.pick(forms, weights)
    if form == "lead":
        return f"{chooser.pick(_LEADS)} {phrase}{relation}{behind}"
    if form == "verb":
        return f"{phrase} {verb}{relation}{behind}"
    if form == "telling":
        lead = chooser.pick(_TELLING_LEADS)
        lead = lead.replace(" is", " are").replace("this", "these") if plural else lead
        return f"{lead} {phrase}{relation}{behind}"
    if form == "place first":
        return f"{place}, {phrase} {verb}{relation}" + (f" {light}" if light else "")
    return f"{phrase}{relation}{behind}"


def _write_about_frame(query: Query, frame: FullFrame, chooser: Chooser) -> str:
    article = frame.noun_phrase.startswith("a ")
    words = [query.noun]
    if frame.kind == "texture":
        words = [chooser.pick(COLOUR_WORDS), *words] if chooser.happens(0.35) else words
        frames = _TEXTURE_FRAMES
    else:
        words = [chooser.pick(_SCENE_ADJECTIVES), *words] if chooser.happens(0.5) else words
        frames = _SCENE_FRAMES
    phrase = " ".join(words)
    phrase = _article(phrase) if article else phrase
    text = chooser.pick(frames).format(phrase)
    if chooser.happens(0.3):
        text += f" {chooser.pick(LIGHT_WORDS[chooser.pick(tuple(LIGHT_WORDS))])}"
    return text
