"""The pre-training stage: an images set in, a saved `SynCLRForPreTraining` out; resumes where it was killed."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import IntervalStrategy

from synclr_hf.data.checks import check_integer
from synclr_hf.data.progress import Progress
from synclr_hf.data.reading import content_fingerprint, read_images
from synclr_hf.data.runs import RUN_FILE, open_run_folder
from synclr_hf.data.seeds import seed_for
from synclr_hf.data.settings import settings_from
from synclr_hf.data.shards import write_text
from synclr_hf.errors import UserInputError, unknown_name
from synclr_hf.evaluation.data import labelled_splits
from synclr_hf.evaluation.labelled_images import LabelledImages
from synclr_hf.models import SynCLRConfig, SynCLRModel
from synclr_hf.objectives import OBJECTIVES
from synclr_hf.views import ViewsConfig, ViewsDataset

from .arguments import SynCLRTrainingArguments
from .checks import check_plan
from .configuration_pretraining import SynCLRPreTrainingConfig
from .modeling_pretraining import SynCLRForPreTraining
from .probe import KNNProbe, ProbeConfig, build_probe
from .trainer import SynCLRTrainer, last_complete_checkpoint, step_of

HISTORY_FILE = "history.json"
"""The Trainer's log, written last: a folder that holds it is finished."""


@dataclass
class PretrainingConfig:
    """Everything that decides a pre-training run.

    Args:
        output_dir: folder for checkpoints, the final model and its log.
        images: folder or Hub id of an images set.
        seed: of weights, order, views.
        encoder: fields of `SynCLRConfig`; `image_size` is that of the global crops, `use_mask_token` follows the
            objectives.
        objectives: entries of `SynCLRPreTrainingConfig.objectives`; the paper's loss when left out.
        student_drop_path_rate: stochastic depth of the student.
        views: fields of `ViewsConfig`.
        training_arguments: fields of `SynCLRTrainingArguments`.
        probe: fields of `ProbeConfig`; kNN accuracy every `eval_steps` (default: `save_steps`). Left out: no probe.

    Raises:
        UserInputError: names the entry that cannot be used, and what is allowed.
    """

    output_dir: str
    images: str
    seed: int = 0
    encoder: dict[str, Any] = field(default_factory=dict)
    objectives: list[dict[str, Any]] | None = None
    student_drop_path_rate: float = 0.0
    views: dict[str, Any] = field(default_factory=dict)
    training_arguments: dict[str, Any] = field(default_factory=dict)
    probe: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Find out early, before anything is made, whether the parts fit together."""
        self.output_dir = str(Path(self.output_dir).expanduser())
        self.images = str(Path(self.images).expanduser()) if self.images.startswith("~") else self.images
        allowed = [field.name for field in fields(SynCLRConfig)]
        for name in self.encoder:
            if name not in allowed:
                raise unknown_name("entry of section 'encoder'", name, allowed, "one of these under `encoder:`")
        for name in ("patch_size", "num_attention_heads", "hidden_size", "num_hidden_layers"):
            check_integer(f"{name}:", self.encoder.get(name, getattr(SynCLRConfig, name)), minimum=1, example=4)
        self.views_config().check_patch_size(self.encoder.get("patch_size", SynCLRConfig.patch_size))
        names = [settings.get("name") for settings in self.objectives or [{}]]
        if self.objectives == [] or len(set(names)) < len(names):
            raise UserInputError(f"objectives {names}; allowed: each of {', '.join(OBJECTIVES)} once")
        model_config = self.model_config()
        with torch.device("meta"):
            model = SynCLRForPreTraining(model_config)
        arguments = self.trainer_arguments()
        check_plan(model, arguments)
        if arguments.eval_strategy != IntervalStrategy.NO and self.probe_config() is None:
            raise UserInputError(
                f"eval_strategy {arguments.eval_strategy.value} needs labelled pictures; allowed: with an entry "
                "`probe`; type probe: {dataset: folder-or-hub-id} under `pretraining:`"
            )

    def views_config(self) -> ViewsConfig:
        """Return the settings of the views."""
        return settings_from(ViewsConfig, self.views, "views")

    def trainer_arguments(self) -> SynCLRTrainingArguments:
        """Return the arguments of the Trainer."""
        fixed = {"output_dir": self.output_dir, "seed": self.seed}
        entries = {"report_to": "none", "save_total_limit": 1, **self.training_arguments, **fixed}
        if self.probe is not None:
            entries = {"eval_strategy": "steps", "eval_steps": entries.get("save_steps", 500), **entries}
        return settings_from(SynCLRTrainingArguments, entries, "training_arguments")

    def probe_config(self) -> ProbeConfig | None:
        """Return the settings of the live probe, if there is one."""
        return None if self.probe is None else settings_from(ProbeConfig, self.probe, "probe")

    def probe_pictures(self) -> LabelledImages | None:
        """Return the train side of the probe's data set; `None` if no data set is named."""
        probe = self.probe_config()
        return labelled_splits(probe.dataset, seed=self.seed)[0] if probe and probe.dataset else None

    def model_config(self) -> SynCLRPreTrainingConfig:
        """Return the configuration of the model."""
        encoder = {"image_size": self.views_config().global_crop_size, **self.encoder}
        try:
            return SynCLRPreTrainingConfig(
                encoder_config=encoder,
                objectives=self.objectives,
                student_drop_path_rate=self.student_drop_path_rate,
            )
        except (StrictDataclassError, TypeError, ValueError) as error:
            reason = str(error).rpartition("ValueError:")[2] or str(error)
            raise UserInputError(f"section 'pretraining': {reason}") from error


def pretrain(config: PretrainingConfig, *, probe_pictures: LabelledImages | None = None) -> Path:
    """Train, or go on where an earlier run of the same configuration stopped; a finished run is left as it is.

    Args:
        config: decides the run.
        probe_pictures: labelled pictures for the live probe, where `config.probe` names no data set.

    Returns:
        The folder of the saved `SynCLRForPreTraining`, its log beside it.

    Raises:
        UserInputError: the images cannot be used, or the folder was made with another configuration.
    """
    folder = Path(config.output_dir)
    with Progress("reading the images set"):
        rows = read_images(config.images)
    arguments = config.trainer_arguments()
    dataset = ViewsDataset(
        rows,
        config.views_config(),
        patch_size=config.model_config().encoder_config.patch_size,
        seed=config.seed,
    )
    _check_batch(config, arguments, dataset)
    probe = _probe(config, probe_pictures)
    is_run_folder = (Path(config.images) / RUN_FILE).is_file()
    record = {
        "stage": "pretrain",
        "rows": len(rows),
        "rows_per_shard": None,
        "configuration": {
            **{name: value for name, value in asdict(config).items() if name not in ("output_dir", "images")},
            "images_fingerprint": content_fingerprint(config.images) if is_run_folder else config.images,
        },
    }
    held = open_run_folder(folder, record) if arguments.process_index == 0 else contextlib.nullcontext()
    with held:
        if not (folder / HISTORY_FILE).is_file():
            _train(config, arguments, dataset, probe, folder)
    return folder


def initial_model(config: PretrainingConfig) -> SynCLRForPreTraining:
    """Return the model as it is before the first step: the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(config.seed, "weights") % 2**32)
        return SynCLRForPreTraining(config.model_config())


def run_encoders(config: PretrainingConfig) -> dict[str, SynCLRModel]:
    """Return the encoders of a finished run: `trained` (the EMA teacher), `student`, and `untrained`, its start."""
    trained = SynCLRForPreTraining.from_pretrained(config.output_dir)
    return {"trained": trained.synclr, "student": trained.student, "untrained": initial_model(config).synclr}


def _check_batch(config: PretrainingConfig, arguments: SynCLRTrainingArguments, dataset: ViewsDataset) -> None:
    batch = arguments.per_device_train_batch_size * arguments.world_size
    if len(dataset) < batch:
        raise UserInputError(
            f"per_device_train_batch_size {arguments.per_device_train_batch_size} x {arguments.world_size} processes "
            f"is more than the {len(dataset)} captions of {config.images}; type a smaller one or make more captions"
        )


def _probe(config: PretrainingConfig, pictures: LabelledImages | None) -> KNNProbe | None:
    probe = config.probe_config()
    if probe is None:
        return None
    pictures = pictures or config.probe_pictures()
    if pictures is None:
        raise UserInputError(
            "probe names no data set, and the held-out pictures are there in synclr run only; "
            "type pretraining.probe.dataset=FOLDER or a Hub id"
        )
    return build_probe(probe, pictures, seed=config.seed)


def _train(
    config: PretrainingConfig,
    arguments: SynCLRTrainingArguments,
    dataset: ViewsDataset,
    probe: KNNProbe | None,
    folder: Path,
) -> None:
    trainer = SynCLRTrainer(model=initial_model(config), args=arguments, train_dataset=dataset, eval_dataset=probe)
    checkpoint = last_complete_checkpoint(folder)
    if checkpoint and step_of(checkpoint) >= arguments.max_steps > 0:
        trainer.state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        best = trainer.state.best_model_checkpoint if arguments.load_best_model_at_end else None
        trainer.model = SynCLRForPreTraining.from_pretrained(best or checkpoint)
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.save_model(str(folder))
    if trainer.is_world_process_zero():
        write_text(folder / HISTORY_FILE, json.dumps(trainer.state.log_history, indent=1) + "\n")
