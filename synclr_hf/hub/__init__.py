"""Ways to the Hub: export, cards."""

from .export import export_encoder, image_processor

__all__ = ["export_encoder", "image_processor"]
