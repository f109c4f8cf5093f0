"""Ways to the Hub: export, cards, conversion of the authors' checkpoints."""

from .conversion import convert_original
from .conversion_stage import convert_checkpoint
from .dinov2 import save_dinov2, to_dinov2
from .export import export_encoder, image_processor
from .pretraining_conversion import convert_original_pretraining

__all__ = [
    "convert_checkpoint",
    "convert_original",
    "convert_original_pretraining",
    "export_encoder",
    "image_processor",
    "save_dinov2",
    "to_dinov2",
]
