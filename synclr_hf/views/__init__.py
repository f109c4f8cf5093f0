"""Views: from image rows to batches of crops."""

from .augmentation import augment
from .configuration import ViewsConfig
from .dataset import ViewsDataset, collate_views, masked_positions_of
from .sampling import BlockSampler, EpochSampler

__all__ = [
    "BlockSampler",
    "EpochSampler",
    "ViewsConfig",
    "ViewsDataset",
    "augment",
    "collate_views",
    "masked_positions_of",
]
