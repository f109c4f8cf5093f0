"""Views: from image rows to batches of crops."""

from .configuration import ViewsConfig
from .dataset import EpochSampler, ViewsDataset, collate_views
from .photometric import augment

__all__ = ["EpochSampler", "ViewsConfig", "ViewsDataset", "augment", "collate_views"]
