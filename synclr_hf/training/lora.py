"""Low-rank adapters (LoRA, Hu et al. 2021) for continuing on a new domain: the encoder stays, small matrices learn."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file

from synclr_hf.data.checks import check_integer, check_number
from synclr_hf.errors import UserInputError, unknown_name

from .modeling_pretraining import SynCLRForPreTraining

ADAPTER_FOLDER = "adapter"
LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2")


@dataclass
class LoraSettings:
    """What the adapters are like.

    Args:
        rank: of the product of the two matrices that is added to a weight; 1 or more.
        alpha: the product counts `alpha / rank` times; default: twice the rank.
        target: linear layers of each block that get an adapter.

    Raises:
        UserInputError: names the entry that cannot be used, and what is allowed.
    """

    rank: int = 8
    alpha: float | None = None
    target: str | list[str] = field(default_factory=lambda: ["q_proj", "v_proj"])

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        check_integer("rank:", self.rank, minimum=1, example=8)
        self.alpha = 2 * self.rank if self.alpha is None else self.alpha
        check_number("alpha:", self.alpha, minimum=0, above_minimum=True, example=16)
        self.target = [self.target] if isinstance(self.target, str) else list(self.target)
        if not self.target:
            raise UserInputError(
                f"target [] of LoRA; allowed: one or more of {', '.join(LINEAR_LAYERS)}; type target: [q_proj, v_proj]"
            )
        for name in self.target:
            if name not in LINEAR_LAYERS:
                raise unknown_name("target of LoRA", name, LINEAR_LAYERS, "target: [q_proj, v_proj]")


def add_adapters(model: SynCLRForPreTraining, settings: LoraSettings, *, base: str) -> None:
    """Put adapters into student and teacher, the same ones; from here on only they and the heads learn.

    The weights of both encoders are frozen, each at its own. The teacher's adapters follow the student's by EMA.

    Args:
        model: changed in place.
        settings: what the adapters are like; the matrices are drawn from torch's global generator, the sum starts at
            zero.
        base: where the encoder under the adapters comes from; told in the adapter's configuration.
    """
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=settings.target)
    config.base_model_name_or_path = base
    for encoder in (model.student, model.synclr):
        inject_adapter_in_model(config, encoder)
    with torch.no_grad():
        for student, teacher in zip(model.student.parameters(), model.synclr.parameters(), strict=True):
            if student.requires_grad:
                teacher.copy_(student)
    model.freeze_teacher()


def save_adapter(model: SynCLRForPreTraining, folder: Path) -> None:
    """Write the teacher's adapters alone, as `PeftModel.from_pretrained(encoder, folder)` reads them."""
    from peft import get_peft_model_state_dict
    from peft.utils import SAFETENSORS_WEIGHTS_NAME

    tensors = get_peft_model_state_dict(model.synclr)
    folder.mkdir(exist_ok=True)
    save_file(
        {f"base_model.model.{name}": tensor for name, tensor in tensors.items()}, folder / SAFETENSORS_WEIGHTS_NAME
    )
    model.synclr.peft_config["default"].save_pretrained(folder)


@torch.no_grad()
def merge_adapters(model: SynCLRForPreTraining) -> None:
    """Add the adapters to the weights of both encoders and take them out: an ordinary model is left, in place."""
    from peft.tuners.lora import LoraLayer

    for encoder in (model.student, model.synclr):
        for name, layer in list(encoder.named_modules()):
            if isinstance(layer, LoraLayer):
                layer.merge()
                encoder.set_submodule(name, layer.get_base_layer())
        del encoder.peft_config
    model.student.requires_grad_(True)
