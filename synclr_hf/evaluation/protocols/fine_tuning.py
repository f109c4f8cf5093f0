"""Fine-tuning of all weights (paper B.3, the column of ViT-B/16).

AdamW with a cosine and linear warm-up, learning rates that fall layer by layer, RandAugment, random erasing, mixup
and cutmix, stochastic depth, a moving average of the weights. Where the paper is silent the reference's
`SynCLR/eval/main_finetune.py` decides: base rates are for a batch of 256 (5e-5 x 1,024 / 256 = 2e-4), no weight decay
on vectors, tokens and positions, no clipping of gradients, cosine down to 1e-6.

Deviations named: RandAugment is torchvision's (see `RandAugment`); pictures are normalised as the encoder says, not by
CLIP's numbers; the reference prints the best epoch on the test pictures, here the last one counts. Not in the paper:
labels of several classes a picture, with a binary cross-entropy and no smoothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.context import EvaluationContext, Outcome
from synclr_hf.evaluation.finetuning.run import train_and_score
from synclr_hf.evaluation.finetuning.settings import TrainingSettings


@dataclass(frozen=True)
class Config:
    """Settings of fine-tuning; the defaults are the paper's for ViT-B/16 (for L/14 in brackets where they differ).

    Attributes:
        epochs: passes over the train pictures (50).
        batch_size: pictures an optimizer step; no more than there are.
        device_batch_size: pictures a forward pass at most; changes memory, not the batch.
        base_learning_rate: highest learning rate at a batch of 256 pictures; at another it is linear in the batch.
        layer_decay: each layer learns at this share of the rate of the layer above it; 1 for one rate (0.8).
        weight_decay: of matrices; vectors, tokens and positions have none.
        warmup_epochs: linear warm-up from 0; by default a fifth of the epochs, the paper's 20 of 100 (5 of 50).
        drop_path_rate: stochastic depth of the last block, where the architecture knows it (0.3).
        rand_augment: RandAugment, by torchvision: pip install "synclr-hf[finetune]".
        rand_augment_magnitude: its strength, 0 to 10.
        rand_augment_std: standard deviation of the strength.
        label_smoothing: share of a target that goes to all classes alike (0.2).
        erasing: probability that a box of a picture becomes noise.
        mixup: alpha of the Beta distribution of mixup; 0 is off.
        cutmix: alpha of the Beta distribution of cutmix; 0 is off.
        crop_scale: smallest share of a picture's area in a random crop.
        ema_decay: of the moving average of the weights, an optimizer step; 0 is off. The average gives the main number
            where the first weights make up less than 1 % of it, from 46,050 steps at 0.9999.
        test_crop: share of the short side that test pictures keep.
    """

    epochs: int = 100
    batch_size: int = 1024
    device_batch_size: int = 64
    base_learning_rate: float = 5e-5
    layer_decay: float = 0.65
    weight_decay: float = 0.05
    warmup_epochs: float | None = None
    drop_path_rate: float = 0.1
    rand_augment: bool = True
    rand_augment_magnitude: float = 9.0
    rand_augment_std: float = 0.5
    label_smoothing: float = 0.1
    erasing: float = 0.25
    mixup: float = 0.8
    cutmix: float = 1.0
    crop_scale: float = 0.08
    ema_decay: float = 0.9999
    test_crop: float = 0.95


def evaluate(context: EvaluationContext, config: Config) -> Outcome:
    """Train all weights of a copy of the encoder with a linear head, and score it once on the test pictures.

    The primary metric is the benchmark's, of the weights that `train_and_score` names; with an average both are in
    the metrics, as `accuracy_trained` and `accuracy_ema`.

    Raises:
        UserInputError: see `train_and_score`; or a setting that cannot be used.
    """
    entries = asdict(config)
    drop_path_rate = entries.pop("drop_path_rate")
    settings = TrainingSettings(section="finetune", **entries)
    if not (isinstance(drop_path_rate, int | float) and 0 <= drop_path_rate < 1):
        raise UserInputError(
            f"finetune.drop_path_rate={drop_path_rate} cannot be used; allowed: a number from 0, below 1; type "
            "finetune.drop_path_rate=0.1"
        )
    return train_and_score(context, settings, drop_path_rate=drop_path_rate)
