"""Makes the image rows of a shard: draws the pictures of its captions and encodes them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from synclr_hf.data.back_ends import BackEnd
from synclr_hf.data.shards import ROWS_PER_GROUP, Row, ShardTask, kept_rows
from synclr_hf.data.tally import Tally
from synclr_hf.data.workers import Report
from synclr_hf.images.config import ImagesConfig
from synclr_hf.images.drawing import HOPELESS_DRAWS, Draft, Drawing, nothing_kept
from synclr_hf.images.encoding import ENCODING_THREADS
from synclr_hf.images.generators import ImageGenerator
from synclr_hf.images.scores import ImageTextScorer

PICTURES_AT_ONCE = 4 * ROWS_PER_GROUP
"""Pictures that are held while their rows are made."""

FIRST_PICTURES = "first_pictures"
"""Key of a row's provenance where an extended row tells what drew its first pictures, if that was something else."""


@dataclass
class ImageMaker:
    """Makes the rows of a shard: all pictures of its captions.

    Attributes:
        config: the stage's settings, resolved.
        back_end: the image generator, not loaded yet.
    """

    config: ImagesConfig
    back_end: BackEnd
    _generator: ImageGenerator | None = field(default=None, init=False, repr=False)
    _scorer: ImageTextScorer | None = field(default=None, init=False, repr=False)
    _kept_any: bool = field(default=False, init=False, repr=False)

    def load(self) -> None:
        """Load the image generator, and the model that scores if there is one."""
        self._generator = self.back_end.load()
        if self.config.score_model is not None:
            self._scorer = ImageTextScorer(self.config.score_model)

    def make(self, task: ShardTask, tally: Tally, report: Report) -> Iterator[Row]:
        """Yield one row a caption, in order; a row goes if its caption is empty or nothing can be shown of it.

        Rows of an earlier version of the shard keep their pictures, and get those that they lack.

        Raises:
            UserInputError: the model draws nothing that can be kept.
        """
        assert self._generator is not None
        start = time.perf_counter()
        # a back end that draws on every core leaves none to threads, and one that waits for a device leaves all
        threads = 0 if self.back_end.parallel_processes else ENCODING_THREADS
        drawing = Drawing(self.config, self._generator, threads, tally, report, self._kept_any)
        made = 0
        for drafts in self._blocks(task, tally, report):
            drawing.draw(drafts)
            for draft in drafts:
                if draft.lost is not None and draft.earlier is not None:
                    tally.counts[f"kept_fewer_{draft.lost}"] += 1
                    draft.restore()
            whole = [draft for draft in drafts if draft.lost is None]
            made += len(whole)
            self._kept_any |= any(len(draft.images) > len((draft.earlier or {}).get("images", ())) for draft in whole)
            tally.dropped += len(drafts) - len(whole)
            tally.counts.update(f"dropped_{draft.lost}" for draft in drafts if draft.lost is not None)
            tally.counts.update(f"kept_{reason}" for draft in whole for reason in draft.forced)
            yield from self._rows(whole)
        if made == 0 and not self._kept_any and (task.index == 0 or tally.cost["pictures"] >= HOPELESS_DRAWS):
            raise nothing_kept(self.config, tally)  # but the last shard may be one caption that is blocked
        tally.cost["seconds"] += time.perf_counter() - start

    def _blocks(self, task: ShardTask, tally: Tally, report: Report) -> Iterator[list[Draft]]:
        """Yield what is to be drawn, as many rows at once as the writer holds in memory."""
        earlier = {(row["caption_id"], row["caption"]): row for row in kept_rows(task)}  # ids may come twice
        step = max(1, min(ROWS_PER_GROUP, PICTURES_AT_ONCE // self.config.images_per_caption))
        for first in range(0, len(task.inputs), step):
            drafts = []
            for number, row in enumerate(task.inputs[first : first + step], start=first):
                there = earlier.get((row["caption_id"], row["caption"]))
                if there is not None:
                    drafts.append(Draft(row, there))
                elif number >= task.kept_num_rows and not self._is_empty(row, tally, report):
                    drafts.append(Draft(row))
            yield drafts

    def _is_empty(self, row: Row, tally: Tally, report: Report) -> bool:
        """Return whether a new row has no caption, and count that, and captions that are cut."""
        if not (row["caption"] or "").strip():
            tally.counts["empty_caption"] += 1
            tally.dropped += 1
            report(self.config.images_per_caption)  # they are done with
            return True
        is_cut = getattr(self._generator, "is_cut", None)
        if is_cut is not None and is_cut(row["caption"]):
            tally.counts["caption_cut"] += 1
        return False

    def _rows(self, drafts: Sequence[Draft]) -> Iterator[Row]:
        scores = self._scores(drafts) if self._scorer else [{}] * len(drafts)
        for draft, scored in zip(drafts, scores, strict=True):
            yield {
                **draft.row,
                "images": [{"bytes": data, "path": None} for _, data in sorted(draft.images.items())],
                "seeds": [seed for _, seed in sorted(draft.seeds.items())],
                "guidance_scale": float(self.config.guidance_scale),
                "provenance": self._provenance(draft),
                **scored,
            }

    def _scores(self, drafts: Sequence[Draft]) -> list[dict[str, list[float]]]:
        """Return the column `scores` of each row; those of an earlier version stay as they are."""
        assert self._scorer is not None
        known = [(draft.earlier or {}).get("scores") or [] for draft in drafts]
        pictures = [
            [data for number, data in sorted(draft.images.items()) if number >= len(there)]
            for draft, there in zip(drafts, known, strict=True)
        ]
        new = self._scorer.scores([draft.row["caption"] for draft in drafts], pictures)
        return [{"scores": [*there, *scores]} for there, scores in zip(known, new, strict=True)]

    def _provenance(self, draft: Draft) -> str:
        assert self._generator is not None
        now: dict[str, Any] = {
            **self._generator.provenance,
            "num_inference_steps": self.config.num_inference_steps,
            "size": self.config.size,
            "format": self.config.image_format,
            "quality": self.config.image_quality,
        }
        told = json.dumps(now, sort_keys=True)
        if draft.earlier is None or draft.earlier["provenance"] == told:
            return told
        there = len(draft.earlier["images"])
        if there == len(draft.images):
            return str(draft.earlier["provenance"])
        now[FIRST_PICTURES] = {"count": there, **json.loads(draft.earlier["provenance"])}
        return json.dumps(now, sort_keys=True)
