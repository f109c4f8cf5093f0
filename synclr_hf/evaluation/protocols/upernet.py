"""UperNet on all weights (SynCLR paper, B.4), by the recipe of MAE and BEiT in mmsegmentation.

AdamW, linear warm-up and linear decay to zero, layer decay, random scale 0.5 to 2, crops that one class fills to 75 %
at most, flips, distortion of light and colour; a neck of transposed convolutions, an auxiliary head of weight 0.4.
Test pictures are scaled to the same short side and predicted by windows with a stride of two thirds; the mean logits
are brought to the mask's own size. Named deviations: BatchNorm sees `crops_at_once` crops (mmsegmentation: all of a
step), the distortion is simpler (`distorted`), warm-up is cut to a tenth of shorter runs, positions have no weight
decay, pixels that count for nothing do not count in the mean of the loss either, and the encoder stays what it is:
the reference's backbone (mmsegmentation's MAE) adds a relative position bias that starts at zero and a scale of each
branch that starts at one, both learned. The paper's table is not what the reference's files say (1e-4, layer decay
0.65); the defaults are the paper's for ViT-B.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import UperNetForSemanticSegmentation

from synclr_hf.data.progress import Progress
from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.context import EvaluationContext, Outcome
from synclr_hf.evaluation.encoding.encoders import Encoder, normalised
from synclr_hf.evaluation.finetuning.checkpoints import checkpoint_folder
from synclr_hf.evaluation.finetuning.randomness import own_randomness
from synclr_hf.evaluation.labelled.masked_images import MaskedImages
from synclr_hf.evaluation.segmentation.crops import SegmentationCrops, scaled_size
from synclr_hf.evaluation.segmentation.frozen_maps import patch_size
from synclr_hf.evaluation.segmentation.pairs import checked_sides, read_pair
from synclr_hf.evaluation.segmentation.results import MaskScorer
from synclr_hf.evaluation.segmentation.settings import check_settings
from synclr_hf.evaluation.segmentation.training import SegmentationTrainer, train, training_arguments
from synclr_hf.evaluation.segmentation.upernet_model import layer_decay_groups, upernet
from synclr_hf.evaluation.segmentation.upsampling import upsampled_classes
from synclr_hf.evaluation.segmentation.windows import sliding_logits


@dataclass(frozen=True)
class Config:
    """Settings of UperNet; the defaults are the paper's for ViT-B on ADE20k.

    Attributes:
        steps: of the optimizer; 160,000 for ViT-L.
        batch_size: crops a step; 16 for ViT-L.
        crops_at_once: crops a forward pass, 2 or more, a divisor of `batch_size`; more needs more memory.
        crop_size: side of the crops and windows in pixels, rounded up to whole patches (518 for patches of 14).
        short_side: of train (before the random scale) and test pictures, rounded up likewise; 0: as they are.
        learning_rate: of the heads.
        weight_decay: of AdamW.
        layer_decay: factor of the learning rate from one block to the one before it; 0.8 for ViT-L.
        warmup_steps: in which the learning rates rise.
        drop_path: stochastic depth of the last block; 0.2 for ViT-L.
        auxiliary_weight: of the auxiliary head's loss.
    """

    steps: int = 60_000
    batch_size: int = 32
    crops_at_once: int = 8
    crop_size: int = 512
    short_side: int = 512
    learning_rate: float = 8e-5
    weight_decay: float = 0.05
    layer_decay: float = 0.6
    warmup_steps: int = 1500
    drop_path: float = 0.1
    auxiliary_weight: float = 0.4


def evaluate(context: EvaluationContext, config: Config) -> Outcome:
    """Train UperNet on the train pictures, predict test masks by sliding windows.

    The encoder itself is left as it is: a copy is trained.
    """
    data, encoder, seed = context.data, context.encoder, seed_for(context.seed, "upernet")
    checked_sides(data.train, data.test)
    settings = effective_settings(encoder, config)
    scorer = MaskScorer(data.test.label_names)
    with checkpoint_folder(context, "upernet", settings) as (folder, _):
        model = trained_upernet(encoder, data.train, settings, seed=seed, folder=folder, told=f"upernet, {data.name}")
        with Progress(f"upernet, {data.name} (test)", total=len(data.test), unit="picture") as bar:
            for row in range(len(data.test)):
                pair = read_pair(data.test, row)
                if pair is not None:
                    predicted = predicted_mask(model, encoder, pair[0], settings)
                    scorer.add(predicted, pair[1])
                bar.update()
    return scorer.outcome(
        seed=seed, num_pictures=len(data.test), config=settings | {"blocks": model.config.backbone_config.out_indices}
    )


def effective_settings(encoder: Encoder, config: Config) -> dict[str, int | float]:
    """Return the settings as they are used, what follows from them included.

    Raises:
        UserInputError: they do not fit together.
    """
    check_settings(
        "upernet",
        config,
        one_or_more=("steps", "batch_size", "crops_at_once", "crop_size"),
        zero_or_more=("short_side", "weight_decay", "warmup_steps", "drop_path", "auxiliary_weight"),
        positive=("learning_rate",),
        shares=("layer_decay",),
    )
    if config.batch_size % config.crops_at_once:
        raise UserInputError(
            f"upernet.crops_at_once {config.crops_at_once} does not divide upernet.batch_size {config.batch_size}; "
            f"allowed: its divisors; type upernet.crops_at_once={config.batch_size}"
        )
    if config.crops_at_once == 1:  # the coarsest pooling leaves one number a channel and crop
        raise UserInputError(
            "upernet.crops_at_once is 1, whose BatchNorm needs two crops; allowed: 2 or more, a divisor of "
            "upernet.batch_size; type upernet.crops_at_once=2"
        )
    patch = patch_size(encoder)
    crop, short_side = (-(-side // patch) * patch for side in (config.crop_size, config.short_side))
    return {
        **asdict(config),
        "crop_size": crop,
        "short_side": short_side,
        "stride": max(crop * 2 // 3, 1),
        "warmup_steps": min(config.warmup_steps, config.steps // 10),
    }


def trained_upernet(
    encoder: Encoder, data: MaskedImages, settings: dict, *, seed: int, folder: Path, told: str
) -> UperNetForSemanticSegmentation:
    """Train UperNet, going on from a checkpoint in the folder if there is one.

    Args:
        encoder: its weights are where the training starts.
        data: the train pictures.
        settings: of `effective_settings`.
        seed: of the heads' weights, the crops and stochastic depth.
        folder: of the checkpoints.
        told: what the progress bar says.
    """
    with own_randomness(seed_for(seed, "heads")):
        model = upernet(
            encoder,
            data.label_names,
            drop_path=settings["drop_path"],
            auxiliary_weight=settings["auxiliary_weight"],
        )
        crops = SegmentationCrops(
            data,
            settings["steps"] * settings["batch_size"],
            crop_size=settings["crop_size"],
            short_side=settings["short_side"],
            image_mean=encoder.image_mean,
            image_std=encoder.image_std,
            seed=seed,
        )
        groups = layer_decay_groups(
            model,
            learning_rate=settings["learning_rate"],
            weight_decay=settings["weight_decay"],
            layer_decay=settings["layer_decay"],
        )
        arguments = training_arguments(
            folder,
            steps=settings["steps"],
            batch_size=settings["batch_size"],
            at_once=settings["crops_at_once"],
            warm_up=settings["warmup_steps"],
            seed=seed_for(seed, "stochastic depth"),
            device=encoder.model.device,
        )
        train(SegmentationTrainer(model=model, args=arguments, train_dataset=crops, groups=groups, description=told))
    return model.eval()


@torch.inference_mode()
def predicted_mask(
    model: UperNetForSemanticSegmentation, encoder: Encoder, picture: Image.Image, settings: dict
) -> Tensor:
    """Return the classes of a picture's pixels at its own size, (H, W) int64 on the CPU.

    Args:
        model: trained, in evaluation mode.
        encoder: for mean and standard deviation of its pictures.
        picture: RGB.
        settings: of `effective_settings`.
    """
    own = (picture.height, picture.width)
    height, width = scaled_size(*own, settings["short_side"])
    resized = picture.resize((width, height), Image.Resampling.BILINEAR)
    pixels = normalised(np.array(resized)[None], encoder.image_mean, encoder.image_std)[0]
    device = model.device
    half = device.type == "cuda" and torch.cuda.is_bf16_supported()

    def predict(crops: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            return model(pixel_values=crops.to(device)).logits

    strips = sliding_logits(
        predict,
        pixels,
        window=settings["crop_size"],
        stride=settings["stride"],
        batch_size=settings["crops_at_once"],
    )
    if (height, width) == own:
        return torch.cat([strip.argmax(dim=0).cpu() for strip in strips])
    return upsampled_classes(torch.cat(list(strips), dim=1), own)
