"""Draws the pictures of a shard's captions until there are enough good ones of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from PIL.Image import Image

from synclr_hf.data.pictures import open_picture
from synclr_hf.data.seeds import seed_for
from synclr_hf.data.shards import Row
from synclr_hf.data.tally import Tally
from synclr_hf.data.workers import Report
from synclr_hf.errors import UserInputError
from synclr_hf.images.config import ImagesConfig
from synclr_hf.images.encoding import Encoded, Encoder, in_order
from synclr_hf.images.generators import ImageGenerator
from synclr_hf.images.quality import BLACK, NEAR_IDENTICAL, Look, fault, look_at, near_identical

MAX_ATTEMPTS = 5
"""Tries for one picture. A model that draws a caption alike or flat five times is taken at its word."""

HOPELESS_DRAWS, HOPELESS_ROWS = 128, 8
"""Draws of so many captions, all blocked or black, after which a model is given up."""

BLOCKED = "blocked"
NEVER_KEPT = (BLOCKED, BLACK)
"""What shows nothing is not kept, even after the last try: then the row goes."""


@dataclass
class Draft:
    """A row in the making.

    Attributes:
        row: the caption row.
        earlier: the row as an earlier, smaller version of the shard has it; its pictures stay.
        images: number of a picture -> encoded bytes.
        seeds: number of a picture -> its seed.
        forced: what is wrong with pictures that were kept after the last try.
        lost: why the row is dropped.
    """

    row: Row
    earlier: Row | None = None
    images: dict[int, bytes] = field(default_factory=dict)
    seeds: dict[int, int] = field(default_factory=dict)
    forced: list[str] = field(default_factory=list)
    lost: str | None = None
    _looks: list[Look] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Take over the pictures that are there."""
        if self.earlier is not None:
            self.images = {number: image["bytes"] for number, image in enumerate(self.earlier["images"])}
            self.seeds = dict(enumerate(self.earlier["seeds"]))

    def restore(self) -> None:
        """Go back to the earlier row: what was drawn and paid for stays, though no picture can be added to it."""
        self.lost, self.forced = None, []
        self.__post_init__()

    def missing(self, count: int) -> list[int]:
        """Return the numbers of the pictures, of `count`, that are not there; looks at those that are."""
        numbers = [number for number in range(count) if number not in self.images]
        if numbers:
            self._looks = [look_at(open_picture(data)) for data in self.images.values()]
        return numbers

    def fault(self, look: Look) -> str | None:
        """Return what is wrong with a new picture, for itself or beside the others of the row."""
        alike = any(near_identical(look, other) for other in self._looks)
        return fault(look) or (NEAR_IDENTICAL if alike else None)

    def keep(self, number: int, seed: int, picture: Encoded) -> None:
        """Take a new picture in."""
        self.images[number], self.seeds[number] = picture.data, seed
        self._looks.append(picture.look)


@dataclass
class Drawing:
    """Draws for one shard, and tallies what it rejects.

    Attributes:
        config: the stage's settings, resolved.
        generator: the model.
        threads: threads that encode, see `in_order`.
        tally: of the shard.
        report: is told every picture that is drawn for the first time.
        trusted: whether the model has drawn something before that was kept; it is never given up then.
    """

    config: ImagesConfig
    generator: ImageGenerator
    threads: int
    tally: Tally
    report: Report
    trusted: bool = False

    def draw(self, drafts: Sequence[Draft]) -> None:
        """Draw what is missing of each, or mark it as lost.

        All missing pictures are drawn once, then those that were rejected once more with other seeds, and so on. The
        pictures of a row are judged in the order of their numbers, so the batches do not matter.

        Raises:
            UserInputError: the model draws nothing but black pictures, or all are blocked.
            RuntimeError: it breaks its promise, e.g. draws another number of pictures.
        """
        pending = [(draft, number) for draft in drafts for number in draft.missing(self.config.images_per_caption)]
        for attempt in range(MAX_ATTEMPTS):
            if not pending:
                return
            is_last = attempt == MAX_ATTEMPTS - 1
            rejected: list[tuple[Draft, int]] = []
            seeds = [self._seed(draft, number, attempt) for draft, number in pending]
            with closing(self._drawn(pending, seeds, self.report if attempt == 0 else None)) as pictures:
                for (draft, number), seed, picture in zip(pending, seeds, pictures, strict=True):
                    self.tally.cost["pictures"] += 1
                    reason = BLOCKED if picture is None else draft.fault(picture.look)
                    if reason is None or (is_last and reason not in NEVER_KEPT):
                        assert picture is not None
                        draft.keep(number, seed, picture)
                        draft.forced += [reason] if reason else []
                        continue
                    self.tally.counts[reason] += 1
                    self.tally.concepts[draft.row["concept"] or ""] += 1
                    self._check_hope()
                    rejected.append((draft, number))
                    draft.lost = reason if is_last else None
            pending = rejected

    def _seed(self, draft: Draft, number: int, attempt: int) -> int:
        again = (attempt,) if attempt else ()
        return seed_for(self.config.seed, "image", draft.row["caption_id"], number, *again)

    def _drawn(
        self, pending: Sequence[tuple[Draft, int]], seeds: Sequence[int], report: Report | None
    ) -> Iterator[Encoded | None]:
        config = self.config
        pictures = self.generator.generate(
            [draft.row["caption"] for draft, _ in pending],
            seeds=seeds,
            guidance_scale=config.guidance_scale,
            num_inference_steps=config.num_inference_steps,
            size=config.size,
        )
        encoder = Encoder(config.size, config.image_format, config.image_quality)
        return in_order(
            lambda picture: None if picture is None else encoder(picture),
            _counted(pictures, len(pending), report),
            threads=self.threads,
        )

    def _check_hope(self) -> None:
        """Give a model up that has drawn nothing that could be kept."""
        draws = self.tally.cost["pictures"]
        useless = sum(self.tally.counts[reason] for reason in NEVER_KEPT)
        if not self.trusted and useless == draws >= max(
            HOPELESS_DRAWS, HOPELESS_ROWS * self.config.images_per_caption
        ):
            raise nothing_kept(self.config, self.tally)


def nothing_kept(config: ImagesConfig, tally: Tally) -> UserInputError:
    """Return the error of a shard without a single row."""
    draws = f"{config.image_generator} drew {int(tally.cost['pictures'])} pictures and none could be kept"
    if not tally.cost["pictures"]:
        return UserInputError(
            f"the captions of '{config.captions}' are empty, and there is nothing to draw; "
            "type --captions with a set that has captions"
        )
    if tally.counts[BLOCKED] >= tally.counts[BLACK]:
        return UserInputError(
            f"{draws}: its safety checker blocks {tally.counts[BLOCKED]} of them; type --no-safety-checker with a new "
            "--output-dir, or --captions with others"
        )
    return UserInputError(
        f"{draws}: {tally.counts[BLACK]} are black, as when the numbers of a model get too large for its precision; "
        "type --dtype float32 or --dtype bfloat16 with a new --output-dir"
    )


def _counted(pictures: Iterable[Image | None], expected: int, report: Report | None) -> Iterator[Image | None]:
    """Pass pictures on as they are drawn, and see that their number is right."""
    count = 0
    for count, picture in enumerate(pictures, start=1):
        if count > expected:
            break
        if report is not None:
            report(1)
        yield picture
    if count != expected:
        more = "more than " if count > expected else ""
        raise RuntimeError(f"the image generator drew {more}{min(count, expected)} pictures for {expected} prompts")
