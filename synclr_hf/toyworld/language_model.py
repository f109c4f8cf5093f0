"""A stand-in language model: it reads the prompt's examples and its query line, and writes on from a grammar."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches

from synclr_hf.data.workers import Report
from synclr_hf.errors import UserInputError, unknown_name
from synclr_hf.toyworld.backgrounds import BACKGROUNDS
from synclr_hf.toyworld.choice import Chooser
from synclr_hf.toyworld.dice import Dice
from synclr_hf.toyworld.full_frames import FULL_FRAMES
from synclr_hf.toyworld.grammar import Query, Style, write_caption
from synclr_hf.toyworld.lexicon import RELATIONS, entries, known_nouns, read, tokens
from synclr_hf.toyworld.place_lists import asks_for_places, write_places
from synclr_hf.toyworld.things import THINGS

ARROW = "=>"
"""Stands between the fields and the caption of a line."""


class ToyLanguageModel:
    """Completes few-shot prompts the way a base model does: captions, or lists of places.

    It takes from the examples which fields a line has (concept; concept and background; concept and relation) and how
    their captions are written (capital, article, full stop), writes a sentence about the query line, or a list where
    the examples are lists of places, and goes on with further lines of its own making until a stop string or the
    length ends it. The same (prompt, seed) pair gives the same text in any batch.
    """

    name = "toyworld-grammar"
    parallel_processes = True
    """One process a core may write; nothing is shared and nothing needs a device."""

    def complete(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        temperature: float = 0.8,
        top_p: float = 0.9,
        max_new_tokens: int = 100,
        stop: Sequence[str] = ("\n",),
        report: Report | None = None,
    ) -> list[str]:
        """Return one completion a prompt, in order, without the prompt and cut before the first `stop` string.

        Args:
            prompts: lines `concept[, background or relation] => caption`, the last one without its caption.
            seeds: one a prompt.
            temperature: 0 is greedy; higher values draw wider.
            top_p: share of the probability that is drawn from.
            max_new_tokens: largest number of words.
            stop: strings that end the text.
            report: is told how many more completions are done.

        Raises:
            UserInputError: a prompt without a query line, or with a concept, background or relation that the toy
                world does not know.
        """
        if len(prompts) != len(seeds):
            raise UserInputError(f"{len(prompts)} prompts came with {len(seeds)} seeds; give one seed a prompt")
        if temperature < 0 or not 0 < top_p <= 1:
            raise UserInputError(
                f"temperature {temperature} with top_p {top_p} cannot be drawn from; allowed: temperature 0 or more, "
                "top_p above 0 and up to 1; type --temperature 0.8 --top-p 0.9"
            )
        completions = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            chooser = Chooser(Dice(seed, "toyworld", "caption", prompt), temperature, top_p)
            text = _continue(prompt, chooser)
            text = "".join(re.findall(r"\s*\S+", text)[: max(max_new_tokens, 0)])
            completions.append(_cut(text, stop))
            if report is not None:
                report(1)
        return completions


def read_prompt(prompt: str) -> tuple[Query, str, Style]:
    """Read a prompt.

    Returns:
        What the query line asks for, the template of the lines (`"concept"`, `"background"` or `"relation"`) and the
        style of the examples' captions.
    """
    lines = [line.strip() for line in prompt.splitlines() if line.strip()]
    if not lines or not lines[-1].endswith(ARROW) or not lines[-1][: -len(ARROW)].strip():
        last = lines[-1][:60] if lines else ""
        raise UserInputError(
            f"the prompt's last line {last!r} is no query; end the prompt with a line like 'mushroom, forest {ARROW}'"
        )
    examples = [line.split(ARROW, 1) for line in lines[:-1] if ARROW in line]
    examples = [(left.strip(), right.strip()) for left, right in examples if left.strip() and right.strip()]
    fields = _fields(lines[-1][: -len(ARROW)])
    templates = Counter(_template(_fields(left)) for left, _ in examples)
    template = templates.most_common(1)[0][0] if templates else _template(fields)
    if len(fields) != (1 if template == "concept" else 2):
        raise UserInputError(
            f"the query line {lines[-1]!r} has {len(fields)} field(s), unlike the prompt's examples of template "
            f"'{template}'; write every line of a prompt with the same fields"
        )
    return _query(fields, template), template, _style([right for _, right in examples])


def _fields(text: str) -> list[str]:
    return [field.strip() for field in text.split(",", 1)]


def _template(fields: Sequence[str]) -> str:
    if len(fields) == 1:
        return "concept"
    return "relation" if fields[1].lower() in RELATIONS else "background"


def _style(captions: Sequence[str]) -> Style:
    """Take over what at least half of the examples do."""
    if not captions:
        return Style()
    half = len(captions) / 2
    return Style(
        capital=sum(caption[0].isupper() for caption in captions) >= half,
        full_stop=sum(caption.endswith(".") for caption in captions) >= half,
        article=sum(tokens(caption)[:1] in (("a",), ("an",), ("the",)) for caption in captions) >= half,
    )


def _query(fields: Sequence[str], template: str) -> Query:
    noun = " ".join(word for word in fields[0].lower().split() if word not in ("a", "an", "the"))
    entry = entries().get(tokens(noun))
    if entry is None or entry.kind != "thing":
        near = get_close_matches(noun, known_nouns(), n=3, cutoff=0.4) or known_nouns()[:3]
        raise UserInputError(
            f"the toy language model does not know the concept '{fields[0]}' (nearest names: {', '.join(near)}); "
            "use the concepts of the bank 'toyworld', or another language model, e.g. --language-model "
            "transformers:ORG/NAME"
        )
    thing = str(entry.value)
    if entry.plural:
        noun = thing
    if template == "concept":
        return Query(thing, noun)
    if thing in FULL_FRAMES:
        raise UserInputError(
            f"the toy language model writes about the {FULL_FRAMES[thing].kind} '{thing}' without background or "
            f"relation; type '{thing} {ARROW}'"
        )
    if template == "relation":
        if fields[1].lower() not in RELATIONS:
            raise unknown_name("relation", fields[1], RELATIONS, f"'{thing}, {RELATIONS[2]} {ARROW}'")
        return Query(thing, noun, relation=fields[1].lower())
    places = [str(found.value) for found in read(fields[1]) if found.kind == "background"]
    if not places:
        raise unknown_name("background", fields[1], BACKGROUNDS, f"'{thing}, {THINGS[thing].backgrounds[0]} {ARROW}'")
    return Query(thing, noun, background=places[0])


def _continue(prompt: str, chooser: Chooser) -> str:
    """Write the query's caption, or its list of places, and two more lines, as a base model would."""
    query, template, style = read_prompt(prompt)
    lists = asks_for_places([line.partition(ARROW)[2] for line in prompt.splitlines()[:-1] if ARROW in line])
    if lists and query.thing not in THINGS:
        raise UserInputError(
            f"the toy language model lists places for things only, not for the {FULL_FRAMES[query.thing].kind} "
            f"'{query.thing}'; type '{next(iter(THINGS))} {ARROW}'"
        )

    def write(asked: Query) -> str:
        return (
            write_places(asked.thing, chooser, full_stop=style.full_stop)
            if lists
            else write_caption(asked, style, chooser)
        )

    text = ("" if prompt.endswith(" ") else " ") + write(query)
    for _ in range(2):
        thing = chooser.pick(tuple(THINGS))
        relation = chooser.pick(RELATIONS) if template == "relation" else None
        background = chooser.pick(THINGS[thing].backgrounds) if template == "background" else None
        head = ", ".join(part for part in (thing, relation or background) if part)
        text += f"\n{head} {ARROW} {write(Query(thing, thing, background, relation))}"
    return text + "\n"


def _cut(text: str, stop: Sequence[str]) -> str:
    ends = [text.find(mark) for mark in stop if mark and mark in text]
    return text[: min(ends)] if ends else text
