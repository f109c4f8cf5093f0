"""The linear probe on pictures that are cropped and flipped anew in every epoch (SynCLR paper, appendix B.2).

One pass of the frozen encoder over the pictures serves all learning rates: their heads learn on the fly from the same
features. Two sets of heads learn side by side. The first learns from a part of the pictures, and the learning rate is
chosen by how it does on the others; the second learns from all of them, and the head of the chosen rate is the result.
So nothing is fitted again, which would double the cost, and no picture is lost to the choice. (The first set sees the
same batches without the pictures that are held out, at the same learning rates.)

Random crops (area and aspect ratio 3/4 to 4/3, bicubic) are those of pre-training; test and validation pictures are
resized on the short side and cropped in the centre.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from synclr_hf.data.pictures import DECODING_ERRORS, Picture, open_picture
from synclr_hf.data.progress import Progress
from synclr_hf.data.seeds import seed_for
from synclr_hf.data.workers import usable_cores
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.context import EvaluationContext
from synclr_hf.evaluation.encoding.features import FeatureTable, encoder_features
from synclr_hf.evaluation.labelled.labelled_images import LabelledImages
from synclr_hf.evaluation.protocols.frozen_batches import FeaturesOf, frozen
from synclr_hf.evaluation.protocols.parallel_heads import HeadTraining, validation_scores
from synclr_hf.evaluation.protocols.rate_choice import (
    LinearProbeResult,
    best_rate,
    check_enough,
    check_finite,
    count_classes,
    validation_split,
)
from synclr_hf.views.crops import random_crop

if TYPE_CHECKING:
    from synclr_hf.evaluation.protocols.linear_probe import Config

CHECKPOINT_EPOCHS = 5
"""Epochs between two checkpoints."""
_MOST_THREADS = 16
_BATCHES_AHEAD = 3
"""Batches that are decoded and cropped while the encoder works on another."""


def augmented_probe(
    context: EvaluationContext, config: Config, test_features: Tensor
) -> tuple[LinearProbeResult, dict[str, Any]]:
    """Train the heads on augmented pictures and score the test pictures.

    An interrupted run goes on from a checkpoint in `context.work_dir`, which is removed at the end.

    Args:
        context: encoder, pictures and seed.
        config: the settings.
        test_features: (M, D), of the test pictures cropped in the centre.

    Returns:
        What was found, and further facts for the report.

    Raises:
        UserInputError: no train picture can be read, a feature is not finite, or every learning rate diverged.
    """
    run = _AugmentedRun(context, config, test_features.shape[1])
    check_finite(test_features, "test")
    run.train()
    return run.result(test_features)


class _AugmentedRun:
    """Both sets of heads, what they learn from, and how far they are."""

    def __init__(self, context: EvaluationContext, config: Config, num_features: int) -> None:
        self.context, self.config = context, config
        self.seed = seed_for(context.seed, "linear probe")
        self.parts: list[LabelledImages] = [context.data.train]
        if context.data.validation is not None:
            self.parts.append(context.data.validation)
        self.pictures = _Joined([part.pictures for part in self.parts])
        self.labels = torch.cat([torch.from_numpy(part.labels) for part in self.parts])
        fit_rows, self.validation_rows = self._sides()
        check_enough(len(fit_rows))
        self.is_fit = np.isin(np.arange(len(self.pictures)), fit_rows)
        self.device = torch.device("cpu") if context.encoder.model is None else context.encoder.model.device
        self.batch_size = min(config.batch_size, len(self.pictures))
        self.steps_per_epoch = len(self.pictures) // self.batch_size
        self.total_steps = config.epochs * self.steps_per_epoch
        self.generator = torch.Generator().manual_seed(seed_for(self.seed, "probe final"))
        self.unreadable: set[int] = set()
        self.first_epoch = 0
        self.checkpoint = None if context.work_dir is None else Path(context.work_dir) / "linear_probe.pt"
        self.chooser, self.final = (
            HeadTraining(
                num_features,
                count_classes(self.labels),
                config.base_learning_rates,
                batch_size=self.batch_size,
                total_steps=self.total_steps,
                device=self.device,
            )
            for _ in range(2)
        )

    def _sides(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows that the first set of heads learns from, and those that the rate is chosen on."""
        if len(self.parts) == 2:
            return np.split(np.arange(len(self.pictures)), [len(self.parts[0])])
        return validation_split(self.labels, self.parts[0].groups, self.config.validation_fraction, self.seed)

    def train(self) -> None:
        """Train both sets of heads, from the checkpoint on where there is one."""
        self._load()
        told = f"linear probe, augmented, {self.context.encoder.name}, {self.context.data.name}"
        epochs, a_pass = self.config.epochs, self.steps_per_epoch * self.batch_size
        with (
            frozen(self.context.encoder) as features_of,
            Progress(told, epochs * a_pass, "picture", initial=self.first_epoch * a_pass) as bar,
        ):
            for epoch in range(self.first_epoch, epochs):
                self._train_epoch(epoch, features_of, bar)
                if (epoch + 1) % CHECKPOINT_EPOCHS == 0 and epoch + 1 < epochs:
                    self._save(epoch + 1)

    def _train_epoch(self, epoch: int, features_of: FeaturesOf, bar: Progress) -> None:
        """Show every picture once, but for an incomplete last batch."""
        self.chooser.start_epoch()
        self.final.start_epoch()
        order = torch.randperm(len(self.pictures), generator=self.generator).numpy()
        batches = np.split(order[: self.steps_per_epoch * self.batch_size], self.steps_per_epoch)
        rows, features, left = [], [], self.batch_size
        with closing(self._crops(batches, epoch)) as crops:
            for asked, readable, pixels in crops:
                if len(readable):
                    rows.append(readable)
                    features.append(features_of(pixels).to(self.device, non_blocking=True))
                left -= asked
                bar.update(asked)
                if left == 0:
                    if rows:
                        self._step(np.concatenate(rows), torch.cat(features))
                    rows, features, left = [], [], self.batch_size

    def _crops(self, batches: Sequence[np.ndarray], epoch: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Cut batches into what the encoder takes at once, decoded and cropped ahead on threads.

        Yields:
            How many rows were asked for, those of them that can be read, (B,) int64, and their pixels,
            (B, size, size, 3) uint8.
        """
        seed = seed_for(self.seed, "crops", epoch)
        waiting: deque[tuple[np.ndarray, list[Future[np.ndarray | None]]]] = deque()

        def collected() -> tuple[int, np.ndarray, np.ndarray]:
            rows, futures = waiting.popleft()
            arrays = [future.result() for future in futures]
            is_read = np.asarray([array is not None for array in arrays])
            self.unreadable.update(rows[~is_read].tolist())
            size = self.context.encoder.image_size
            pixels = np.stack(
                [array for array in arrays if array is not None] or [np.zeros((size, size, 3), np.uint8)]
            )
            return len(rows), rows[is_read], pixels

        with ThreadPoolExecutor(max_workers=min(_MOST_THREADS, usable_cores())) as threads:
            for batch in batches:
                for start in range(0, len(batch), self.context.encoder.batch_size):
                    rows = batch[start : start + self.context.encoder.batch_size]
                    # reading stays on this thread, decoding is spread
                    futures = [threads.submit(self._crop, self.pictures[int(row)], seed, int(row)) for row in rows]
                    waiting.append((rows, futures))
                    if len(waiting) > _BATCHES_AHEAD:
                        yield collected()
            while waiting:
                yield collected()

    def _crop(self, picture: Picture, seed: int, row: int) -> np.ndarray | None:
        """Return a picture cropped and flipped at random, (size, size, 3) uint8; `None` if it cannot be read."""
        generator = np.random.default_rng(seed_for(seed, row))
        try:
            image = open_picture(picture)
        except DECODING_ERRORS:
            return None
        crop = random_crop(image, self.context.encoder.image_size, self.config.crop_scale, generator)
        crop = crop.transpose(1, 2, 0)
        return crop[:, ::-1] if generator.random() < self.config.flip_probability else crop

    def _step(self, rows: np.ndarray, features: Tensor) -> None:
        """Train both sets of heads on one batch; BatchNorm needs two rows."""
        labels = self.labels[torch.from_numpy(rows)].to(self.device, non_blocking=True)
        if len(rows) > 1:
            self.final.step(features, labels)
        fit = np.flatnonzero(self.is_fit[rows])
        if len(fit) > 1:
            places = torch.from_numpy(fit).to(self.device, non_blocking=True)
            self.chooser.step(features[places], labels[places])

    def result(self, test_features: Tensor) -> tuple[LinearProbeResult, dict[str, Any]]:
        """Choose the learning rate on pictures that the first set of heads did not learn from."""
        rates = self.config.base_learning_rates
        if self.final.steps_done == 0:
            raise UserInputError(
                f"none of {len(self.unreadable)} train pictures can be read; "
                "needed: JPEG, PNG or another format that Pillow opens"
            )
        table = self._validation_table()
        finite = np.logical_and(self.chooser.finite(), self.final.finite()).tolist()
        metric = self.context.data.metric
        scores = validation_scores(self.chooser.heads, table.features, table.labels, metric, finite)
        best, diverged = best_rate(rates, scores, finite)
        head = list(rates).index(best)
        if self.checkpoint is not None:
            self.checkpoint.unlink(missing_ok=True)
        found = LinearProbeResult(
            scores=self.final.heads.scores(test_features, head),
            base_learning_rate=best,
            validation_scores=dict(zip(rates, scores, strict=True)),
            diverged=diverged,
            train_loss=self.final.train_losses()[head],
            batch_size=self.batch_size,
            steps=self.total_steps,
            num_validation=len(table),
        )
        return found, {"num_unreadable_train": len(self.unreadable), "resumed_at_epoch": self.first_epoch}

    def _validation_table(self) -> FeatureTable:
        """Return the features of the pictures that the rate is chosen on, cropped in the centre."""
        if len(self.parts) == 2:
            return self.context.table("validation")
        held_out = self.parts[0].rows(self.validation_rows)
        told = "features, to choose the learning rate"
        return encoder_features(self.context.encoder, held_out, cache_dir=self.context.cache_dir, description=told)

    def _key(self) -> str:
        """Return a checksum of all that the heads depend on."""
        encoder, data = self.context.encoder.fingerprint, [part.fingerprint for part in self.parts]
        facts = (encoder, data, asdict(self.config), self.seed)
        return blake2b(repr(facts).encode(), digest_size=16).hexdigest()

    def _save(self, next_epoch: int) -> None:
        """Write the checkpoint so that it is there whole or not at all."""
        if self.checkpoint is None:
            return
        state = {
            "key": self._key(),
            "next_epoch": next_epoch,
            "chooser": self.chooser.state_dict(),
            "final": self.final.state_dict(),
            "generator": self.generator.get_state(),
            "unreadable": sorted(self.unreadable),
        }
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.checkpoint.with_suffix(f".{os.getpid()}.tmp")
        try:
            torch.save(state, temporary)
            os.replace(temporary, self.checkpoint)
        finally:
            temporary.unlink(missing_ok=True)

    def _load(self) -> None:
        """Go on from the checkpoint if it is one of this encoder, these pictures and these settings."""
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, UnpicklingError):  # damaged
            return
        if state["key"] != self._key():
            return
        self.chooser.load_state_dict(state["chooser"])
        self.final.load_state_dict(state["final"])
        self.generator.set_state(state["generator"])
        self.unreadable = set(state["unreadable"])
        self.first_epoch = state["next_epoch"]


class _Joined(Sequence[Picture]):
    """Sequences of pictures one behind the other."""

    def __init__(self, parts: Sequence[Sequence[Picture]]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def __getitem__(self, place: int) -> Picture:
        for part in self._parts:
            if place < len(part):
                return part[place]
            place -= len(part)
        raise IndexError(place)
