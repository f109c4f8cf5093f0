"""What suits each family of text-to-image models where the user says nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FamilyDefaults:
    """Settings that suit a family of models.

    Attributes:
        guidance_scale: w of w x conditional + (1 - w) x unconditional.
        num_inference_steps: denoising steps.
    """

    guidance_scale: float = 2.5
    num_inference_steps: int = 50


def family_defaults(spec: str) -> FamilyDefaults:
    """Return what suits an image generator, by what the user typed; nothing is loaded."""
    return FamilyDefaults()
