"""Configuration of the whole pre-training model: encoder, objectives, what the student drops."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from synclr_hf.models import SynCLRConfig

PAPER_OBJECTIVES: list[dict[str, Any]] = [
    {"name": "multi_positive", "weight": 1.0},
    {"name": "ibot", "weight": 1.0},
]
"""The loss of the paper: eq. 4, all weights 1."""


@strict
class SynCLRPreTrainingConfig(PreTrainedConfig):
    """What `SynCLRForPreTraining` is made of.

    Args:
        encoder_config: the encoder's configuration, or its fields as a dict; `use_mask_token` follows the objectives.
        objectives: one dict an objective: `name`, `weight`, and the arguments of its class.
        student_drop_path_rate: stochastic depth of the student, in [0, 1); the teacher has none. Paper: 0.1, L 0.4.
        class_names: what the class ids of supervised objectives stand for, sorted; they decide `num_classes`.
    """

    model_type = "synclr_pretraining"
    sub_configs = {"encoder_config": SynCLRConfig}

    encoder_config: dict | PreTrainedConfig | None = None
    objectives: list[dict] | None = None
    student_drop_path_rate: float | int = 0.0
    class_names: list[str] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Complete what was left out by the paper's settings."""
        if not isinstance(self.encoder_config, SynCLRConfig):
            self.encoder_config = SynCLRConfig(**(self.encoder_config or {}))
        if self.objectives is None:
            self.objectives = [dict(settings) for settings in PAPER_OBJECTIVES]
        # An unused parameter stops distributed training, so the mask token exists only where an objective masks.
        self.encoder_config.use_mask_token = "masked" in self.requires
        if self.class_names is not None:
            counted = {"num_classes": len(self.class_names)}
            self.objectives = [
                {**settings, **counted} if settings.get("name") == "cross_entropy" else settings
                for settings in self.objectives
            ]
        super().__post_init__(**kwargs)

    @property
    def requires(self) -> frozenset[str]:
        """What the objectives together need: of `global`, `local`, `masked`, `teacher`, `classes`."""
        from synclr_hf.objectives import OBJECTIVES  # here, so that knowing the configuration costs no torch

        known = [settings for settings in self.objectives if settings.get("name") in OBJECTIVES]
        return frozenset().union(*(OBJECTIVES[settings["name"]].requirements(settings) for settings in known))
