"""Student, EMA teacher and objectives as one model that is saved whole."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from synclr_hf.implementation import check_implementation
from synclr_hf.models import SynCLRModel
from synclr_hf.models.modeling_synclr import SynCLRPreTrainedModel
from synclr_hf.models.packed import encode_packed, use_packed_layers
from synclr_hf.objectives import Features, build_objective
from synclr_hf.objectives.ibot import PrototypeHead
from synclr_hf.views import masked_positions_of

from .configuration_pretraining import SynCLRPreTrainingConfig


@dataclass
class SynCLRForPreTrainingOutput(ModelOutput):
    """The combined loss and its parts.

    Args:
        loss: scalar, the weighted sum over the objectives.
        parts: name -> scalar, what the objectives told, without gradient.
        teacher_cls: `(V, D)`, cls features of the global crops by the teacher (the student where there is none).
        assignments: `(M, K)`, masked patches to prototypes; `None` where no objective assigns, or nobody asked.
    """

    loss: torch.Tensor | None = None
    parts: dict[str, torch.Tensor] | None = None
    teacher_cls: torch.Tensor | None = None
    assignments: torch.Tensor | None = None


class SynCLRForPreTraining(PreTrainedModel):
    """The paper's training model (3.3): a student learns to predict what its own moving average says.

    `synclr` is the EMA teacher, so that `SynCLRModel.from_pretrained` reads it from a saved pre-training model; where
    no objective requires a teacher it is a copy of the student (the Trainer updates it with decay 0). The union of the
    objectives' `requires` decides which forward passes run; the teacher sees unmasked crops only.

    Attributes:
        implementation: `fast` or `plain`, see `set_implementation`; not saved with the model.
    """

    config: SynCLRPreTrainingConfig
    base_model_prefix = "synclr"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def __init__(self, config: SynCLRPreTrainingConfig) -> None:
        super().__init__(config)
        student_config = copy.deepcopy(config.encoder_config)
        student_config.drop_path_rate = config.student_drop_path_rate
        self.synclr = SynCLRModel(config.encoder_config)
        self.student = SynCLRModel(student_config)
        for encoder in (self.synclr, self.student):
            use_packed_layers(encoder)
        hidden_size = config.encoder_config.hidden_size
        self.objectives = nn.ModuleDict(
            {settings["name"]: build_objective(settings, hidden_size) for settings in config.objectives}
        )
        self.requires = config.requires
        self.set_implementation("fast")
        self.post_init()
        # What FSDP2 cuts where nothing is named. Not the embeddings: accelerate cuts the patch layer out by itself.
        self._no_split_modules = ["PackedLayer"]
        self.copy_student_to_teacher()
        self.freeze_teacher()

    def set_implementation(self, implementation: str) -> None:
        """Choose `fast` (default) or `plain`, the readable reference: the numbers are the same.

        Fast is one packed pass over all crops without what nobody looks at (`models/packed.py`), and a prototype loss
        without a second full matrix (`objectives/prototype_loss.py`).

        Raises:
            UserInputError: it is none of the two.
        """
        check_implementation(implementation)
        self.implementation = implementation
        for objective in self.objectives.values():
            objective.implementation = implementation

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load as every model of transformers; loading makes new parameters, so the teacher is frozen again."""
        loaded = super().from_pretrained(*args, **kwargs)
        (loaded[0] if isinstance(loaded, tuple) else loaded).freeze_teacher()
        return loaded

    def freeze_teacher(self) -> None:
        """Keep gradients from the teacher: it moves by average only."""
        for _, teacher in self.teacher_pairs():
            teacher.requires_grad_(False)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, PrototypeHead):
            bound = module.weight_v.shape[1] ** -0.5
            init.uniform_(module.weight_v, -bound, bound)
            init.ones_(module.weight_g)
        else:
            SynCLRPreTrainedModel._init_weights(self.synclr, module)

    def teacher_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Return every (student, teacher) pair of modules: the encoder and the heads of the objectives."""
        heads = [pair for objective in self.objectives.values() for pair in objective.teacher_pairs()]
        return [(self.student, self.synclr), *heads]

    @torch.no_grad()
    def copy_student_to_teacher(self) -> None:
        """Start the teacher as an exact copy of the student."""
        for student, teacher in self.teacher_pairs():
            for source, target in zip(student.parameters(), teacher.parameters(), strict=True):
                target.copy_(source)

    @torch.no_grad()
    def update_teacher(self, decay: float) -> None:
        """Move the teacher: `decay * teacher + (1 - decay) * student` (paper 3.3), once an optimizer step.

        Only where the student learns: what is frozen (LoRA) stays in each as it is.
        """
        pairs = [
            pair
            for student, teacher in self.teacher_pairs()
            for pair in zip(student.parameters(), teacher.parameters(), strict=True)
            if pair[0].requires_grad
        ]
        students, teachers = zip(*pairs, strict=True)
        torch._foreach_lerp_(teachers, students, 1 - decay)

    def train(self, mode: bool = True) -> "SynCLRForPreTraining":
        """Set the student's mode; the teacher stays in evaluation (the Trainer calls this in every step)."""
        super().train(mode)
        for _, teacher in self.teacher_pairs():
            teacher.eval()
        return self

    @torch.no_grad()
    def teacher_features(self, pixel_values: torch.Tensor, masked_positions: torch.Tensor | None = None) -> Features:
        """Encode unmasked global crops `(V, 3, H, W)` by the teacher, and what the student does not see."""
        return self._encode(self.synclr, [(pixel_values, None)], masked_positions)[0]

    def _encode(
        self,
        encoder: SynCLRModel,
        crops: Sequence[tuple[torch.Tensor, torch.Tensor | None]],
        masked_positions: torch.Tensor | None,
    ) -> list[Features]:
        """Encode streams of (crops, masks); the features of masked patches are those of the first stream."""
        if self.implementation == "plain":
            tokens = [encoder(pixels, bool_masked_pos=masks).last_hidden_state for pixels, masks in crops]
            cls, masked = [one[:, 0] for one in tokens], None
            if masked_positions is not None:
                masked = tokens[0][:, 1:].flatten(0, 1)[masked_positions]
        else:
            cls, masked = encode_packed(encoder, crops, masked_positions)
        return [Features(cls=one, masked_patches=None if place else masked) for place, one in enumerate(cls)]

    @torch.no_grad()
    def window_targets(
        self, batches: Sequence[dict[str, Any]], step: int = 0, total_steps: int = 1
    ) -> list[dict[str, dict[str, Any]]]:
        """Compute the targets of all batches of one optimizer step together.

        The teacher does not move within a step, so each batch is contrasted with the keys of all of them, and their
        masked patches are assigned together: gradients add up to those of one large batch.

        Args:
            batches: what `forward` takes, one dict a batch; all of the same number of crops.
            step: optimizer steps done.
            total_steps: optimizer steps of the whole training.

        Returns:
            One dict a batch: name of the objective -> its targets; `teacher` -> `cls` features, where there is one.
        """
        batches, teacher = [self._with_masked_positions(batch) for batch in batches], None
        if "teacher" in self.requires:
            parts = [self.teacher_features(b["pixel_values"], b["masked_positions"]) for b in batches]
            masked = [part.masked_patches for part in parts if part.masked_patches is not None]
            teacher = Features(torch.cat([part.cls for part in parts]), torch.cat(masked) if masked else None)
        names = ("caption_ids", "image_ids", "view_ids", "class_ids", "bool_masked_pos")
        joined = {
            name: torch.cat([batch[name] for batch in batches]) for name in names if batches[0].get(name) is not None
        }
        split: list[dict[str, dict[str, Any]]] = [{} for _ in batches]
        if teacher is not None:
            split = [{"teacher": {"cls": part.cls}} for part in parts]
        for name, objective in self.objectives.items():
            targets = objective.targets(teacher, joined, step, total_steps, num_parts=len(batches))
            for own, part in zip(split, objective.split_targets(targets, batches), strict=True):
                own[name] = part
        return split

    def _with_masked_positions(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Add the positions of the masked patches where an objective masks and the collator did not; else `None`."""
        positions = batch.get("masked_positions") if "masked" in self.requires else None
        if "masked" in self.requires and positions is None:
            positions = masked_positions_of(batch["bool_masked_pos"])
        return {**batch, "masked_positions": positions}

    def student_features(
        self,
        pixel_values: torch.Tensor,
        bool_masked_pos: torch.Tensor | None,
        local_pixel_values: torch.Tensor | None,
        masked_positions: torch.Tensor | None = None,
    ) -> dict[str, Features]:
        """Encode the streams that the objectives require: `global` (masked where one masks) and `local`."""
        crops = {"global": (pixel_values, bool_masked_pos if "masked" in self.requires else None)}
        if "local" in self.requires and local_pixel_values is not None:
            crops["local"] = (local_pixel_values, None)
        features = self._encode(self.student, list(crops.values()), masked_positions)
        return dict(zip(crops, features, strict=True))

    def forward(
        self,
        pixel_values: torch.Tensor,
        caption_ids: torch.Tensor,
        image_ids: torch.Tensor,
        view_ids: torch.Tensor,
        bool_masked_pos: torch.Tensor | None = None,
        local_pixel_values: torch.Tensor | None = None,
        class_ids: torch.Tensor | None = None,
        step: int = 0,
        total_steps: int = 1,
        targets: dict[str, dict[str, Any]] | None = None,
        masked_positions: torch.Tensor | None = None,
        output_assignments: bool = True,
    ) -> SynCLRForPreTrainingOutput:
        """Compute the combined loss (paper eq. 4) of one batch of this process.

        Args:
            pixel_values: `(V, 3, H, W)` float, normalised global crops.
            caption_ids: `(V,)` int64; crops of the same caption are positives of each other.
            image_ids: `(V,)` int64, unique a picture.
            view_ids: `(V,)` int64, unique a crop over all processes.
            bool_masked_pos: `(V, P)` bool, true = the student sees the mask token there.
            local_pixel_values: `(V L, 3, h, w)` float; rows i L ... i L + L - 1 belong to global crop i.
            class_ids: `(V,)` int64, places in `config.class_names`; only supervised objectives need them.
            step: optimizer steps done; drives the schedules of the objectives.
            total_steps: optimizer steps of the whole training.
            targets: what `window_targets` returned for this batch; `None`: the batch is the whole optimizer step.
            masked_positions: `(M,)` int64, what `masked_positions_of(bool_masked_pos)` returns; computed when left
                out, for which the host waits for the device.
            output_assignments: whether to return them. No tensor is larger, and accelerate copies what
                a model returns to float32.

        Raises:
            ValueError: if an objective masks and the batch holds no masks, or needs classes that it does not hold.
        """
        if "masked" in self.requires and bool_masked_pos is None:
            raise ValueError("these objectives need bool_masked_pos of shape (V, P); the collator makes it")
        if "classes" in self.requires and class_ids is None:
            raise ValueError("these objectives need class_ids of shape (V,); give ViewsDataset the class names")
        batch = {
            "caption_ids": caption_ids,
            "image_ids": image_ids,
            "view_ids": view_ids,
            "class_ids": class_ids,
            "bool_masked_pos": bool_masked_pos,
            "masked_positions": masked_positions,
        }
        batch = self._with_masked_positions(batch)
        if targets is None:
            (targets,) = self.window_targets([{**batch, "pixel_values": pixel_values}], step, total_steps)
        student = self.student_features(pixel_values, bool_masked_pos, local_pixel_values, batch["masked_positions"])
        weights = {settings["name"]: settings.get("weight", 1.0) for settings in self.config.objectives}
        loss, parts = pixel_values.new_zeros((), dtype=torch.float32), {}
        for name, objective in self.objectives.items():
            told = objective(student, targets[name], batch, step, total_steps)
            loss = loss + weights[name] * told.pop("loss")
            parts |= {part: value.detach() for part, value in told.items()}
        return SynCLRForPreTrainingOutput(
            loss=loss,
            parts=parts,
            teacher_cls=targets["teacher"]["cls"] if "teacher" in targets else student["global"].cls.detach(),
            assignments=next((found["assignments"] for found in targets.values() if "assignments" in found), None)
            if output_assignments
            else None,
        )
