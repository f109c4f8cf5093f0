"""The live probe: kNN accuracy of teacher and student on a few labelled pictures while they train."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import distributed
from transformers import PreTrainedModel

from synclr_hf.data.checks import check_integer
from synclr_hf.data.pictures import IMAGENET_MEAN, IMAGENET_STD
from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.encoding.encoders import evaluating, normalised, own_image_size, picture_tokens
from synclr_hf.evaluation.labelled.labelled_images import LabelledImages
from synclr_hf.evaluation.labelled.pictures import prepared_batches
from synclr_hf.evaluation.labelled.splits import stratified_group_split
from synclr_hf.evaluation.protocols.knn import PRIMARY_K, knn_predictions
from synclr_hf.objectives.distributed import world_size

BATCH_SIZE = 256
TEST_SHARE = 1 / 3


@dataclass(frozen=True)
class KNNProbe:
    """Pictures that `SynCLRTrainer.evaluate` classifies; given to the Trainer as `eval_dataset`.

    Attributes:
        train: pictures with known classes.
        test: pictures whose classes are predicted.
    """

    train: LabelledImages
    test: LabelledImages


@dataclass
class ProbeConfig:
    """Entry `probe` of a pre-training.

    Args:
        dataset: folder or Hub id of a labelled image data set; `None`: the held-out pictures of `synclr run`.
        train_pictures: at most so many pictures with known classes.
        test_pictures: at most so many pictures to classify.

    Raises:
        UserInputError: if a number is not positive.
    """

    dataset: str | None = field(default=None, metadata={"example": "org/name"})
    train_pictures: int = 2000
    test_pictures: int = 1000

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        check_integer("probe.train_pictures:", self.train_pictures, minimum=1, example=2000)
        check_integer("probe.test_pictures:", self.test_pictures, minimum=1, example=1000)


def build_probe(config: ProbeConfig, pictures: LabelledImages, *, seed: int) -> KNNProbe:
    """Divide labelled pictures 2/3 to 1/3, class by class and whole captions at a time, and thin both sides.

    Args:
        config: how many pictures.
        pictures: the train side of a data set: what its test side measures must not choose a checkpoint.
        seed: the same seed gives the same probe.

    Raises:
        UserInputError: if no class has two groups of pictures.
    """
    train, test = stratified_group_split(
        pictures.labels, pictures.groups, held_out=TEST_SHARE, seed=seed_for(seed, "probe")
    )
    if len(test) == 0:
        raise UserInputError(
            f"probe: the {len(pictures)} pictures have one of each class, so nothing is left to classify; "
            "type probe.dataset= a data set with more pictures of each class"
        )
    return KNNProbe(
        train=pictures.rows(train).at_most(config.train_pictures, seed=seed),
        test=pictures.rows(test).at_most(config.test_pictures, seed=seed),
    )


def knn_top1(encoders: Mapping[str, PreTrainedModel], probe: KNNProbe) -> dict[str, float]:
    """Return the kNN accuracy of each encoder, at `PRIMARY_K` neighbours, as a fraction.

    Each process describes its share of the pictures; all of them return the same numbers. Nothing random is drawn,
    and the encoders are put back into their modes.

    Args:
        encoders: name -> encoder, all of one picture size.
        probe: the pictures; unreadable ones are left out.
    """
    train, train_labels = _features(encoders, probe.train)
    test, test_labels = _features(encoders, probe.test)
    accuracies = {}
    for name in encoders:
        (predicted,) = knn_predictions(train[name], train_labels, test[name], ks=(PRIMARY_K,)).values()
        accuracies[name] = (predicted == test_labels).double().mean().item()
    return accuracies


def _features(
    encoders: Mapping[str, PreTrainedModel], data: LabelledImages
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return `(N, D)` features of each encoder and `(N,)` labels of all readable pictures, in their own order."""
    rank = distributed.get_rank() if world_size() > 1 else 0
    mine = np.arange(rank, len(data), world_size())
    size = own_image_size(next(iter(encoders.values())))
    found: list[tuple[np.ndarray, dict[str, torch.Tensor]]] = []
    with contextlib.ExitStack() as modes:
        for encoder in encoders.values():
            modes.enter_context(evaluating(encoder))
        for rows, pixels in prepared_batches(data.rows(mine).pictures, size=size, batch_size=BATCH_SIZE):
            if len(rows):
                batch = normalised(pixels, IMAGENET_MEAN, IMAGENET_STD)
                found.append((mine[rows], {name: picture_tokens(model, batch) for name, model in encoders.items()}))
    if world_size() > 1:
        shares: list[list[tuple[np.ndarray, dict[str, torch.Tensor]]]] = [[] for _ in range(world_size())]
        distributed.all_gather_object(shares, found)
        found = [batch for share in shares for batch in share]
    if not found:
        raise UserInputError(f"probe: none of the {len(data)} pictures can be read; type probe.dataset= another one")
    rows = np.concatenate([rows for rows, _ in found])
    order = np.argsort(rows)
    features = {name: torch.cat([batch[name] for _, batch in found])[torch.from_numpy(order)] for name in encoders}
    return features, torch.from_numpy(data.labels[rows[order]])
