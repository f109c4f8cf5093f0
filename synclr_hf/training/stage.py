"""The pre-training stage: an images set in, a saved `SynCLRForPreTraining` out; resumes where it was killed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file
from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import IntervalStrategy
from transformers.utils import SAFE_WEIGHTS_NAME

from synclr_hf.data.parquet_rows import ParquetRows
from synclr_hf.data.progress import Progress
from synclr_hf.data.reading import PRETRAINING_COLUMNS, concept_names, content_fingerprint, read_images
from synclr_hf.data.runs import RUN_FILE, open_run_folder
from synclr_hf.data.seeds import seed_for
from synclr_hf.data.settings import check_types, settings_from
from synclr_hf.data.shards import write_text
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.labelled.data import labelled_splits
from synclr_hf.evaluation.labelled.labelled_images import LabelledImages
from synclr_hf.models import SynCLRConfig, SynCLRModel
from synclr_hf.views import ViewsConfig, ViewsDataset

from .arguments import SynCLRTrainingArguments
from .checkpoints import last_complete_checkpoint, step_of
from .checks import check_plan
from .configuration_pretraining import SynCLRPreTrainingConfig
from .continuation import TAKEN_OVER, continued_settings, load_initial_weights
from .entries import check_class_names, check_encoder, check_objectives
from .lora import ADAPTER_FOLDER, LoraSettings, add_adapters, merge_adapters, save_adapter
from .modeling_pretraining import SynCLRForPreTraining
from .probe import KNNProbe, ProbeConfig, build_probe
from .sources import HISTORY_FILE, encoder_address, find_source, weights_fingerprint
from .trainer import SynCLRTrainer

_PLACES = ("output_dir", "images", "initial_weights")
"""Entries that say where things lie; what lies there is told by fingerprints."""


@dataclass
class PretrainingConfig:
    """Everything that decides a pre-training run.

    Args:
        output_dir: folder for checkpoints, the final model and its log.
        images: folder or Hub id of an images set, also `org/name@revision`.
        streaming: read the rows while training, from Parquet files in a folder or on the Hub, and store nothing; the
            order then depends on the number of processes and workers.
        seed: of weights, order, views.
        encoder: fields of `SynCLRConfig`; `image_size` is that of the global crops, `use_mask_token` follows the
            objectives.
        objectives: entries of `SynCLRPreTrainingConfig.objectives`; the paper's loss when left out.
        student_drop_path_rate: stochastic depth of the student; 0 when left out.
        views: fields of `ViewsConfig`.
        training_arguments: fields of `SynCLRTrainingArguments`.
        class_names: classes of supervised objectives, dropped where there are none; the sorted concepts of the images
            set when left out.
        initial_weights: folder or Hub id of a saved `SynCLRForPreTraining` to go on from, instead of random weights;
            what is left out above is then as there, see `continued_settings`.
        lora: fields of `LoraSettings`: adapters are trained instead of the encoder's weights, and added to them in the
            end; `None`: the weights are trained.
        probe: fields of `ProbeConfig`; kNN accuracy every `eval_steps` (default: `save_steps`). Left out: no probe.

    Raises:
        UserInputError: names the entry that cannot be used, and what is allowed.
    """

    output_dir: str
    images: str
    streaming: bool = False
    seed: int = 0
    encoder: dict[str, Any] = field(default_factory=dict)
    objectives: list[dict[str, Any]] | None = field(default=None, metadata={"example": "[{name: multi_positive}]"})
    student_drop_path_rate: float | None = None
    views: dict[str, Any] = field(default_factory=dict)
    training_arguments: dict[str, Any] = field(default_factory=dict)
    class_names: list[str] | None = field(default=None, metadata={"example": "[bird, cat]"})
    initial_weights: str | None = field(default=None, metadata={"example": "FOLDER"})
    lora: dict[str, Any] | None = None
    probe: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Find out early, before anything is made, whether the parts fit together."""
        self.output_dir = str(Path(self.output_dir).expanduser())
        check_types(PretrainingConfig, vars(self), "pretraining")
        self.images = str(Path(self.images).expanduser()) if self.images.startswith("~") else self.images
        check_encoder(self.encoder)
        check_objectives(self.objectives)
        check_class_names(self.class_names)
        self._take_over()
        self.views_config().check_patch_size(self.encoder.get("patch_size", SynCLRConfig.patch_size))
        model_config = self.model_config()
        if "classes" not in model_config.requires:
            self.class_names = None
        with torch.device("meta"):
            model = SynCLRForPreTraining(model_config)
        arguments = self.trainer_arguments()
        # YAML takes `1e-3` for a text; what is recorded, and what a continuation computes with, is the number.
        self.training_arguments = {
            name: getattr(arguments, name)
            if isinstance(value, str) and _is_number(getattr(arguments, name))
            else value
            for name, value in self.training_arguments.items()
        }
        check_plan(model, arguments)
        if arguments.eval_strategy != IntervalStrategy.NO and self.probe_config() is None:
            raise UserInputError(
                f"eval_strategy {arguments.eval_strategy.value} needs labelled pictures; allowed: with an entry "
                "`probe`; type probe: {dataset: folder-or-hub-id} under `pretraining:`"
            )

    def _take_over(self) -> None:
        """Complete the settings: by those of the initial weights where there are some, else by defaults."""
        if self.lora is not None and self.initial_weights is None:
            raise UserInputError("lora adapts trained weights: type initial_weights: FOLDER, or leave lora out")
        if self.initial_weights is not None:
            self.lora_settings()
            given = {name: getattr(self, name) for name in TAKEN_OVER}
            settings = continued_settings(self.initial_weights, given, is_lora=self.lora is not None)
            for name, value in settings.items():
                setattr(self, name, value)
        self.student_drop_path_rate = self.student_drop_path_rate or 0.0

    def lora_settings(self) -> LoraSettings | None:
        """Return the settings of the adapters, if there are to be any."""
        return None if self.lora is None else settings_from(LoraSettings, self.lora, "lora")

    def views_config(self) -> ViewsConfig:
        """Return the settings of the views."""
        return settings_from(ViewsConfig, self.views, "views")

    def trainer_arguments(self) -> SynCLRTrainingArguments:
        """Return the arguments of the Trainer."""
        fixed = {"output_dir": self.output_dir, "seed": self.seed}
        entries = {"report_to": "none", "save_total_limit": 2, **self.training_arguments, **fixed}
        if entries.get("load_best_model_at_end") and self.probe is None:
            raise UserInputError(
                "load_best_model_at_end needs labelled pictures to choose by; allowed: with an entry `probe`; "
                "type probe: {dataset: folder-or-hub-id} under `pretraining:`"
            )
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
                class_names=self.class_names,
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
    config, rows = read_rows(config)
    arguments = config.trainer_arguments()
    views = config.views_config()
    if "local" not in config.model_config().requires:
        views = replace(views, num_local_crops=0)  # nobody would look at them
    dataset = ViewsDataset(
        rows,
        views,
        patch_size=config.model_config().encoder_config.patch_size,
        seed=config.seed,
        class_names=config.class_names,
        implementation=arguments.implementation,
    )
    _check_batch(config, arguments, dataset)
    probe = _probe(config, probe_pictures)
    record = {
        "stage": "pretrain",
        "rows": len(rows),
        "rows_per_shard": None,
        "configuration": {
            **{name: value for name, value in asdict(config).items() if name not in _PLACES},
            "images_fingerprint": _fingerprint(config, rows),
        },
    }
    if config.initial_weights is not None:
        record["initial_weights"] = config.initial_weights
        fingerprint = weights_fingerprint(find_source(config.initial_weights))
        record["configuration"]["initial_weights_fingerprint"] = fingerprint
    held = open_run_folder(folder, record) if arguments.process_index == 0 else contextlib.nullcontext()
    with held:
        if not (folder / HISTORY_FILE).is_file():
            _train(config, arguments, dataset, probe, folder)
    return folder


def initial_model(config: PretrainingConfig) -> SynCLRForPreTraining:
    """Return the model as it is before the first step: the same seed gives the same weights, or the same adapters."""
    if config.initial_weights is None:
        return random_model(config)
    model = load_initial_weights(config.initial_weights, config.model_config())
    lora = config.lora_settings()
    if lora is not None:
        with _seeded(config.seed, "adapters"):
            add_adapters(model, lora, base=encoder_address(config.initial_weights))
    return model


def random_model(config: PretrainingConfig) -> SynCLRForPreTraining:
    """Return a model with random weights: the same seed gives the same ones."""
    with _seeded(config.seed, "weights"):
        return SynCLRForPreTraining(config.model_config())


def run_encoders(config: PretrainingConfig) -> dict[str, SynCLRModel]:
    """Return the encoders of a finished run: `trained` (the EMA teacher), `student`, and `untrained` (random)."""
    trained = SynCLRForPreTraining.from_pretrained(config.output_dir)
    return {"trained": trained.synclr, "student": trained.student, "untrained": random_model(config).synclr}


@contextlib.contextmanager
def _seeded(seed: int, purpose: str) -> Iterator[None]:
    """Draw from a generator of one's own, leaving the global one as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, purpose) % 2**32)
        yield


def read_rows(config: PretrainingConfig) -> tuple[PretrainingConfig, Any]:
    """Read the images set; where classes are needed, the configuration that comes back has their names."""
    supervised = "classes" in config.model_config().requires
    columns = (*PRETRAINING_COLUMNS, "concept") if supervised else PRETRAINING_COLUMNS
    with Progress("reading the images set"):
        rows = (ParquetRows if config.streaming else read_images)(config.images, columns)
        if supervised and config.class_names is None:
            config = replace(config, class_names=concept_names(rows))
    return config, rows


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _fingerprint(config: PretrainingConfig, rows: Any) -> str:
    if config.streaming:
        return rows.fingerprint
    # datasets' own is made of the commit of a Hub data set, of names, sizes and times of other files
    return content_fingerprint(config.images) if (Path(config.images) / RUN_FILE).is_file() else rows._fingerprint


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
        trainer.model.load_state_dict(load_file(Path(best or checkpoint) / SAFE_WEIGHTS_NAME))
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if config.lora is not None:
        if trainer.is_world_process_zero():
            save_adapter(trainer.model, folder / ADAPTER_FOLDER)
        merge_adapters(trainer.model)
    trainer.save_model(str(folder))
    if trainer.is_world_process_zero():
        write_text(folder / HISTORY_FILE, json.dumps(trainer.state.log_history, indent=1) + "\n")
