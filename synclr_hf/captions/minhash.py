"""Signatures of captions by datatrove's minhash, and the pairs that agree in a part of them; loaded when needed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets, MinhashDedupSignature
from datatrove.utils.hashing import HashConfig
from datatrove.utils.text import TextNormConfig
from datatrove.utils.word_tokenizers import WordTokenizer
from loguru import logger

NUM_BUCKETS = 16
"""Parts of a signature; captions that agree in one of them are compared."""

_FOUND = 0.95
_MAX_HASHES = 12
_READ_AT_ONCE = 1000
_AS_IT_IS = TextNormConfig(
    lowercase=False,
    norm_whitespace=False,
    remove_punctuation=False,
    norm_unicode_diacritics=False,
    norm_numbers=False,
)


class _Words(WordTokenizer):
    """Words of a text that is normalised already; the tokenizers of datatrove need spaCy and would change words."""

    def word_tokenize(self, text: str) -> list[str]:
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        return [text]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        return [(0, len(text))]


def hashes_per_bucket(similarity: float) -> int:
    """Return the most hashes a bucket with which a pair of this similarity is still found in 95 of 100 cases.

    A pair with Jaccard index s agrees in one of b buckets of r hashes with probability 1 - (1 - s^r)^b.
    """
    if similarity >= 1:
        return _MAX_HASHES
    needed = 1 - (1 - _FOUND) ** (1 / NUM_BUCKETS)
    return min(max(math.floor(math.log(needed) / math.log(similarity)), 1), _MAX_HASHES)


def write_signatures(texts: Iterable[str], folder: Path, number: int, similarity: float, words: int) -> None:
    """Write the signatures of the texts of file `number` to `folder`, one file a bucket, sorted.

    Args:
        texts: words with a space between them; those of fewer than `words` words get no signature.
        folder: where the files of all numbers go.
        number: number of the file, from 0.
        similarity: see `hashes_per_bucket`.
        words: length of the runs of words that are compared.
    """
    documents = (Document(text=text, id="") for text in texts)
    with _quiet():
        MinhashDedupSignature(str(folder), _config(similarity, words), _Words()).run(documents, rank=number)


def write_pairs(signatures: Path, folder: Path, bucket: int, similarity: float, words: int) -> Path:
    """Write the pairs of texts that agree in a bucket, and return the file.

    A pair is four unsigned 32-bit integers: file and place of one text, file and place of the next one that agrees
    with it; a group of more than two is a chain of pairs.
    """
    config = _config(similarity, words)
    with _quiet():
        step = MinhashDedupBuckets(str(signatures), str(folder), config=config, lines_to_buffer=_READ_AT_ONCE)
        step.run(None, rank=bucket, world_size=NUM_BUCKETS)
    return folder / f"{bucket:05d}_00.dups"


def _config(similarity: float, words: int) -> MinhashConfig:
    """Return the settings; 32 bits halve the files, SHA-1 works with every version of xxhash (4 broke theirs)."""
    return MinhashConfig(
        n_grams=words,
        num_buckets=NUM_BUCKETS,
        hashes_per_bucket=hashes_per_bucket(similarity),
        norm_config=_AS_IT_IS,
        hash_config=HashConfig(precision=32, hash_fc="sha1"),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the log of datatrove from standard error."""
    logger.disable("datatrove")
    try:
        yield
    finally:
        logger.enable("datatrove")
