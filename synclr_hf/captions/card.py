"""What the card of a caption run tells about its rows, in sections of markdown with pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path

from synclr_hf.captions.filters import MAX_TOKENS
from synclr_hf.captions.maker import NO_BACKGROUND_LIST
from synclr_hf.captions.prompt_tokens import TokenCounter
from synclr_hf.captions.statistics import OPENING_WORDS, CaptionStatistics, SampleStatistics, caption_statistics
from synclr_hf.data.cards import REJECTED, CardSections, code, licence_fields, plain, table
from synclr_hf.data.plots import bar_plot, histogram_plot
from synclr_hf.data.shards import CARD_FOLDER
from synclr_hf.data.tally import Tally

_MOST_NAMES = 20
_MOST_SOURCES = 40
_MOST_REASONS = 12
_MOST_CONCEPTS = 10
_NAME_LENGTH = 60
_NOT_COUNTED = "not counted"


@dataclass(frozen=True)
class CaptionFacts:
    """Settings of a caption run that its card speaks of.

    Attributes:
        language_model: what wrote the captions, as the user typed it.
        temperature: of the sampling.
        top_p: nucleus of the sampling.
        max_new_tokens: longest completion.
        seed: the run's seed; decides which examples are shown.
        wanted_shares: source -> its share in the mixture that was asked for; `None` where nothing was said.
        count_tokens: counts what the image model reads.
        max_tokens: the most it reads.
    """

    language_model: str
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int
    wanted_shares: Mapping[str, float] | None = None
    count_tokens: TokenCounter = field(default_factory=TokenCounter)
    max_tokens: int = MAX_TOKENS


_UNKNOWN = CaptionFacts("", 0.0, 0.0, 0, 0)
"""Stands in for the settings of captions that another run has written."""


def describe_captions(files: Iterable[Path], tally: Tally, facts: CaptionFacts | None) -> CardSections:
    """Look at all rows of a finished run and return the sections of its card; name concepts that got no caption.

    Args:
        files: the shards, in any order.
        tally: what they all told, added up.
        facts: the settings of the run; `None` for a set that was made from another one.
    """
    known = facts or _UNKNOWN
    statistics = caption_statistics(sorted(files), seed=known.seed, count_tokens=known.count_tokens)
    sections = caption_card_sections(statistics, tally, facts)
    if never := _never_kept(statistics, tally):
        told = f"all draws of {_plural(len(never), 'concept')} were rejected: {_named(never, str)}"
        return replace(sections, notices=(told,))
    return sections


def _never_kept(statistics: CaptionStatistics, tally: Tally) -> list[str]:
    """Return the concepts that were drawn and got no caption."""
    return sorted(name for name in tally.concepts if name not in statistics.concepts)


def _named(names: Sequence[str], write: Callable[[str], str]) -> str:
    more = f", and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(write(name) for name in names[:_MOST_NAMES]) + more


def caption_card_sections(statistics: CaptionStatistics, tally: Tally, facts: CaptionFacts | None) -> CardSections:
    """Return the sections and pictures of the card: mixture, rejects, lengths, diversity, cost, examples.

    Args:
        statistics: numbers of the rows.
        tally: what all shards told, added up.
        facts: the settings of the run, if the captions were written by it.
    """
    known = facts or _UNKNOWN
    tokens, limit = statistics.sample.tokens, (known.max_tokens, f"{known.max_tokens:,} tokens: the most that is read")
    pictures = {
        "lengths": histogram_plot(statistics.lengths, axis="words", what="captions"),
        "tokens": histogram_plot(tokens, axis="tokens", what="captions", limit=limit),
    }
    if rejected := _rejects(tally):
        pictures["rejected"] = bar_plot(_reasons(rejected), axis="draws")
    if statistics.sample.words:
        bars = [(word, 100 * share) for word, share in statistics.sample.words]
        pictures["words"] = bar_plot(bars, axis="share of captions (%)", number="{:.1f} %")
    sections = {
        "Mixture": _mixture(statistics, known.wanted_shares),
        "Concepts": _concepts(statistics, tally),
        REJECTED: _rejected(statistics, tally),
        "Lengths": _lengths(statistics, known),
        "Diversity": _diversity(statistics),
        **({"Making and cost": _cost(statistics, tally.cost, facts)} if facts else {}),
        "Examples": _examples(statistics),
    }
    return CardSections(sections, {_path(name): contents for name, contents in pictures.items()})


def _mixture(statistics: CaptionStatistics, wanted: Mapping[str, float] | None) -> str:
    """Return the tables of sources and templates; a source that was wanted and never drawn has a line too."""
    rows, shares = statistics.rows, wanted or {}
    drawn = {name: statistics.sources.get(name, 0) for name in {**statistics.sources, **shares}}
    names = sorted(drawn, key=lambda name: (-max(drawn[name] / rows, shares.get(name, 0.0)), name))
    groups = [[name] for name in names[:_MOST_SOURCES]] + [names[_MOST_SOURCES:]] * (len(names) > _MOST_SOURCES)
    lines = []
    for group in groups:
        count = sum(drawn[name] for name in group)
        share = "–" if wanted is None else _percent(sum(shares.get(name, 0.0) for name in group))
        title = _name(group[0]) if len(group) == 1 else f"{len(group)} more"
        lines.append([title, share, _percent(count / rows), f"{count:,}"])
    templates = [[_name(name), _percent(count / rows), f"{count:,}"] for name, count in statistics.templates.items()]
    return "\n\n".join(
        (
            table(("source", "wanted", "drawn", "captions"), lines, numbers=("wanted", "drawn", "captions")),
            table(("template", "drawn", "captions"), templates, numbers=("drawn", "captions")),
        )
    )


def _concepts(statistics: CaptionStatistics, tally: Tally) -> str:
    counts = list(statistics.concepts.items())
    lines = [f"{_plural(len(counts), 'concept')} with captions."]
    if len(counts) <= 2 * _MOST_CONCEPTS:
        lines.append(f"Captions of each: {_counted(counts)}.")
    else:
        lines.append(f"Most captions: {_counted(counts[:_MOST_CONCEPTS])}.")
        lines.append(f"Fewest: {_counted(counts[: -_MOST_CONCEPTS - 1 : -1])}.")
    if never := _never_kept(statistics, tally):
        count, names = _plural(len(never), "concept"), _named(never, _name)
        lines.append(f"**Without a caption**, for all their draws were rejected: {count}: {names}.")
    return "\n\n".join(lines)


def _rejects(tally: Tally) -> Counter[str]:
    """Return the counts of rejected draws alone."""
    return Counter({reason: count for reason, count in tally.counts.items() if reason != NO_BACKGROUND_LIST})


def _rejected(statistics: CaptionStatistics, tally: Tally) -> str:
    parts = []
    if changed := tally.counts[NO_BACKGROUND_LIST]:
        parts.append(
            f"In {_plural(changed, 'row')} another template took the place of the background template, for concepts "
            "that list no backgrounds."
        )
    counts = _rejects(tally)
    if not counts:
        return "\n\n".join(parts) or "None."
    rejected = tally.concepts.total()
    if rejected:
        draws = statistics.rows + rejected
        parts.append(
            f"Of {draws:,} draws {statistics.rows:,} were kept ({_percent(statistics.rows / draws)}); "
            "a rejected one was drawn again in its place."
        )
    lines = [[plain(name), f"{count:,}"] for name, count in _ordered(counts)]
    parts += [
        table(("reason", "draws"), lines, numbers=("draws",)),
        _picture("rejected", "rejected draws, by reason"),
    ]
    return "\n\n".join(parts)


def _lengths(statistics: CaptionStatistics, facts: CaptionFacts) -> str:
    tokenizer = facts.count_tokens.tokenizer
    counter = "estimated for that of CLIP" if tokenizer is None else f"counted by the tokenizer {code(tokenizer)}"
    return "\n\n".join(
        (
            f"Words, in all rows: {_span(statistics.lengths)}.",
            _picture("lengths", "captions by their number of words"),
            f"Tokens of the image model's text encoder, special ones included, {counter}, in {_which(statistics)}: "
            f"{_span(statistics.sample.tokens)}; it reads {facts.max_tokens:,}.",
            _picture("tokens", "captions by their number of tokens"),
        )
    )


def _diversity(statistics: CaptionStatistics) -> str:
    sample = statistics.sample
    part = statistics.duplicates_part
    among = "all rows" if part == 1 else f"one of {part:,} different captions, chosen by checksum"
    lines = [
        ["vocabulary", f"{sample.vocabulary:,}", "different words, in lower case, without punctuation"],
        *(
            [f"distinct-{n}", _number(value), f"different {grams} / all {grams} (Li et al. 2016)"]
            for n, (value, grams) in enumerate(
                zip(sample.distinct, ("words", "word pairs", "word triples"), strict=True), start=1
            )
        ),
        [
            "self-similarity, mean",
            _number(sample.nearest_mean),
            f"resemblance with the nearest other caption of the sample, over {_plural(sample.probes, 'caption')}: the "
            "Jaccard index of their sets of word pairs (Broder 1997); 1: the same words in the same order",
        ],
        ["self-similarity, 95th percentile", _number(sample.nearest_high), "the same"],
        ["exact duplicates", _percent(statistics.duplicates), f"captions that equal an earlier one; among {among}"],
        [
            "begin alike",
            _percent(sample.begin_alike),
            f"captions whose first {OPENING_WORDS} words begin another caption of the sample",
        ],
    ]
    parts = [
        f"Measured on {_which(statistics)}, but for the duplicates; most of it depends on how many rows those are.",
        table(("measure", "value", "definition"), lines, numbers=("value",)),
    ]
    return "\n\n".join([*parts, *_frequent(sample)])


def _frequent(sample: SampleStatistics) -> list[str]:
    """Return what is said about frequent words and openings."""
    openings = ", ".join(f"{_words(words)} ({_percent(share)})" for words, share in sample.openings)
    told = [f"Most frequent first words: {openings}."]
    if sample.words:
        told.append(
            f"Most frequent words, function words aside: {', '.join(_name(word) for word, _ in sample.words)}."
        )
        told.append(_picture("words", "the most frequent words by the share of captions that have them"))
    return told


def _cost(statistics: CaptionStatistics, cost: Mapping[str, float], facts: CaptionFacts) -> str:
    seconds, tokens = cost.get("seconds", 0.0), cost.get("completion_tokens")
    fields = licence_fields(facts.language_model)
    licence = ", ".join(f"{name}: {plain(value)}" for name, value in fields.items()) if fields else None
    own = "a part of synclr_hf, Apache-2.0" if facts.language_model == "toy" else "unknown, not checked"
    names = list(statistics.language_models)
    rows = {
        "language model": code(facts.language_model),
        "named in the rows": ", ".join(map(code, names[:5])) + (", …" if len(names) > 5 else ""),
        "its licence": f"{licence} (its own files say so; not checked)" if licence else own,
        "temperature": f"{facts.temperature:g}",
        "top-p": f"{facts.top_p:g}",
        "new tokens at most": f"{facts.max_new_tokens:,}",
        "prompt tokens": _amount(cost.get("prompt_tokens")),
        "completion tokens": _amount(tokens),
        "seconds, all processes together": f"{seconds:,.1f}" if seconds else _NOT_COUNTED,
        "completion tokens a second": _rate(tokens, seconds),
        "captions a second of one process": _rate(statistics.rows, seconds),
    }
    return table(("what", "value"), rows.items())


def _examples(statistics: CaptionStatistics) -> str:
    lines = []
    for row in statistics.examples:
        second = row["background"] or row["relation"]
        asked = f"{_name(row['concept'])}, {_name(second)}" if second else _name(row["concept"])
        lines.append([_name(row["source"]), _name(row["template"]), asked, plain(row["caption"])])
    return table(("source", "template", "asked for", "caption"), lines)


def _reasons(counts: Mapping[str, int]) -> list[tuple[str, float]]:
    """Return the bars of the reasons; the rarest share one if there are too many."""
    ordered = _ordered(counts)
    if len(ordered) <= _MOST_REASONS:
        return [(name, float(count)) for name, count in ordered]
    rest = ordered[_MOST_REASONS - 1 :]
    last = (f"{len(rest)} others", sum(count for _, count in rest))
    return [(name, float(count)) for name, count in [*ordered[: _MOST_REASONS - 1], last]]


def _ordered(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _span(lengths: Mapping[int, int]) -> str:
    """Return range, mean and median of numbers that come so often."""
    total, numbers = sum(lengths.values()), sorted(lengths)
    mean = sum(number * count for number, count in lengths.items()) / total
    upto = accumulate(lengths[number] for number in numbers)
    median = next(number for number, count in zip(numbers, upto, strict=True) if 2 * count >= total)
    return f"{numbers[0]:,} to {numbers[-1]:,}, {mean:.1f} in the mean, {median:,} in the median"


def _which(statistics: CaptionStatistics) -> str:
    """Return what the sample is."""
    rows = statistics.sample.rows
    return "all rows" if rows == statistics.rows else f"{rows:,} rows at even distances over all shards"


def _path(name: str) -> str:
    return f"{CARD_FOLDER}/{name}.png"


def _picture(name: str, shows: str) -> str:
    return f"![{plain(shows)}]({_path(name)})"


def _name(text: str | None) -> str:
    return plain(text or "–", _NAME_LENGTH)


def _words(text: str) -> str:
    return f"“{_name(text)}”"


def _counted(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{_name(name)} ({count:,})" for name, count in counts)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %" if 0 < share < 0.01 else f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _amount(count: float | None) -> str:
    return _NOT_COUNTED if count is None else f"{count:,.0f}"


def _rate(amount: float | None, seconds: float) -> str:
    return _NOT_COUNTED if amount is None or not seconds else f"{amount / seconds:,.1f}"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
