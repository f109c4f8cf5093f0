"""A model, pictures and arguments small enough to train in a second, and what tests ask of such trainings."""

import numpy as np
import torch
from image_sets import picture
from PIL import Image
from torch.utils.data import Dataset
from transformers import TrainerCallback

from synclr_hf.evaluation.labelled.labelled_images import labelled_pictures
from synclr_hf.training import (
    SynCLRForPreTraining,
    SynCLRPreTrainingConfig,
    SynCLRTrainer,
    SynCLRTrainingArguments,
)
from synclr_hf.training.stage import PretrainingConfig
from synclr_hf.views import ViewsConfig, ViewsDataset, augment, collate_views

ENCODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
OBJECTIVES = [
    {"name": "multi_positive", "weight": 1.0, "head_hidden_size": 32, "head_output_size": 16},
    {"name": "ibot", "num_prototypes": 24, "head_hidden_size": 32, "head_bottleneck_size": 16},
]
VIEWS = {"global_crop_size": 32, "local_crop_size": 16, "num_local_crops": 2}
STAGE_ARGUMENTS = {
    "max_steps": 5,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "logging_steps": 1,
    "save_steps": 2,
    "save_total_limit": 4,
    "ema_decay": 0.9,
    "disable_tqdm": True,
    "use_cpu": True,
}


def build_model(objectives=OBJECTIVES, **settings):
    torch.manual_seed(0)
    return SynCLRForPreTraining(
        SynCLRPreTrainingConfig(encoder_config=dict(ENCODER), objectives=objectives, **settings)
    )


def build_dataset():
    rows = [{"caption_id": i, "images": [picture(4 * i + k) for k in range(4)]} for i in range(12)]
    return ViewsDataset(rows, ViewsConfig(**VIEWS), patch_size=8, seed=0)


def batch_of(dataset, captions=4):
    """The arguments of a forward pass."""
    batch = collate_views([dataset[(0, i)] for i in range(captions)])
    del batch["unreadable_rows"]
    batch["pixel_values"] = augment(batch["pixel_values"], batch.pop("aug_params"))
    batch["local_pixel_values"] = augment(batch["local_pixel_values"], batch.pop("local_aug_params"))
    return batch


def probe_pictures(count=60, unreadable=()):
    """Labelled pictures of three classes, two pictures a caption; those of `unreadable` are no pictures."""
    rng = np.random.default_rng(0)
    labels = [place % 3 for place in range(count)]
    shades = rng.integers(0, 60, count) + 20 * np.array(labels)  # they overlap, so that some are taken for others
    noisy = [rng.integers(0, 120, (40, 40, 3), dtype=np.uint8) + np.uint8(shade) for shade in shades]
    images = [b"no picture" if place in unreadable else Image.fromarray(n) for place, n in enumerate(noisy)]
    return labelled_pictures(images, labels, ["a", "b", "c"], groups=[place // 2 for place in range(count)])


def arguments(folder, **changes):
    """The Trainer's arguments of seven steps; an epoch of `build_dataset()` has three."""
    settings = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "max_steps": 7,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_steps": 4,
        "seed": 0,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return SynCLRTrainingArguments(**{**settings, **changes})


def continued(source, images, folder, **settings):
    """The configuration of a training of four steps that goes on from saved weights."""
    training = {**STAGE_ARGUMENTS, "max_steps": 4, **settings.pop("training_arguments", {})}
    return PretrainingConfig(
        output_dir=str(folder),
        images=str(images),
        initial_weights=str(source),
        training_arguments=training,
        **settings,
    )


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def assert_equal_tensors(mine, theirs):
    """Compare two state dicts bit for bit."""
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert torch.equal(tensor, theirs[name]), name


def assert_equal_weights(one, other):
    """Compare the models of two Trainers bit for bit."""
    assert_equal_tensors(one.model.state_dict(), other.model.state_dict())


class Gradients(TrainerCallback):
    """Keeps the gradients of every optimizer step."""

    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        named = model.named_parameters()
        self.steps.append({name: p.grad.clone() for name, p in named if p.requires_grad})


def first_gradients(dataset, folder, **changes):
    """Train one step and return its gradients and what was logged."""
    kept = Gradients()
    settings = {"max_steps": 1, "save_strategy": "no", "max_grad_norm": 0.0, **changes}
    trainer = SynCLRTrainer(
        model=build_model(), args=arguments(folder, **settings), train_dataset=dataset, callbacks=[kept]
    )
    trainer.train()
    return kept.steps[0], next(entry for entry in trainer.state.log_history if "loss" in entry)


class Spoil(TrainerCallback):
    """Does something to the model before the forward pass of one step."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_step_begin(self, args, state, control, model, **kwargs):
        if state.global_step == self.step - 1:
            self.action(model)


class Changed(Dataset):
    """Another data set's items, changed by a function."""

    def __init__(self, dataset, change):
        self.dataset, self.change = dataset, change

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, key):
        return self.change(dict(self.dataset[key]))


def replaced(key, function):
    return lambda item: {**item, key: function(item)}
