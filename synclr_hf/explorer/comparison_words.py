"""What the page says about a comparison: sentences that claim no more than one query shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synclr_hf.explorer.comparison import ComparedHit, Comparison, EncoderAnswer
    from synclr_hf.explorer.index.facts import IndexFacts

ABOUT = (
    "Two encoders, the same query. **Similarities of two encoders cannot be compared**: each has its own scale, and "
    "0.9 may be close for one and far for the other. What can be read side by side: the rank of a picture, the share "
    "of the index that is less similar, and what the pictures show."
)
ONE_QUERY = (
    "One query proves nothing: measure with `synclr evaluate` on many pictures, and set two results side by side with "
    "`synclr compare`."
)


def pictures_words(facts: IndexFacts) -> str:
    """Return what pictures are looked through."""
    if facts.is_toy:
        return "These are toy pictures, simple shapes drawn by a program: good for trying the page, no evidence."
    return f"Pictures: {facts.images}." if facts.images else ""


def hit_words(hit: ComparedHit) -> str:
    """Return the caption of a found picture, also what is read out."""
    told = [f"{hit.rank}. (other: {hit.rank_of_other:,}.)", f"closer than {_percent(hit.percentile)}"]
    told += ["same caption"] * hit.is_sibling
    return ", ".join([*told, *filter(None, [hit.concept])])


def answer_words(answer: EncoderAnswer) -> str:
    """Return what is said above the pictures that one encoder found."""
    from synclr_hf.explorer.comparison import told_name  # brings torch, which the page is served without

    best, last = answer.hits[0].similarity, answer.hits[-1].similarity
    told = f"### {told_name(answer.encoder)}\nSimilarities on its own scale: shown {best:.3f} to {last:.3f}, "
    told += f"median of the whole index {answer.median:.3f}."
    if (share := answer.concept) is None:
        return told
    told += f"\n\nConcept **{share.concept}**: "
    if share.others:
        told += f"{share.same} of {share.others} pictures of other captions "
        told += f"({share.same / share.others:.0%}; chance {share.chance:.1%})"
    else:
        told += "no picture of another caption is shown"
    return f"{told}. Beside them {share.siblings} made from the query's own caption."


def comparison_words(comparison: Comparison) -> str:
    """Return what is said above both."""
    count = len(comparison.answers[0].hits)
    chance = count * count / comparison.searched
    told = "The query is a picture that was uploaded."
    if comparison.row is not None:
        told = f"The query is picture {comparison.row} of the index (itself left out)."
    return (
        f"{told} Both encoders share **{comparison.shared} of {count}** nearest pictures among "
        f"{comparison.searched:,} (two blind choices would share {chance:.2g}). {ONE_QUERY}"
    )


def _percent(value: float) -> str:
    """Return a percentile that is never rounded up to all of them."""
    return f"{int(value * 100) / 100:.2f}%"
