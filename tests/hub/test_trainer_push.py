"""`push_to_hub` of the Trainer: what a training under way leaves on the Hub loads for others."""

TRAIN = """
import torch
from PIL import Image
from synclr_hf.training import SynCLRForPreTraining, SynCLRPreTrainingConfig, SynCLRTrainer, SynCLRTrainingArguments
from synclr_hf.views import ViewsConfig, ViewsDataset

encoder = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=8)
objectives = [dict(name="multi_positive", head_hidden_size=16, head_output_size=8)]
torch.manual_seed(0)
model = SynCLRForPreTraining(SynCLRPreTrainingConfig(encoder_config=encoder, objectives=objectives))
colours = [[(40 * i, 9 * k, 90) for k in range(2)] for i in range(4)]
pictures = [[Image.new("RGB", (40, 40), colour) for colour in row] for row in colours]
rows = [{"caption_id": i, "images": images} for i, images in enumerate(pictures)]
views = ViewsConfig(global_crop_size=32, local_crop_size=16, num_local_crops=1)
arguments = SynCLRTrainingArguments(
    output_dir="training", max_steps=4, save_steps=2, per_device_train_batch_size=2, report_to="none",
    push_to_hub=True, hub_model_id="ada/under-way", hub_strategy="HUB_STRATEGY", hub_private_repo=True,
)
trainer = SynCLRTrainer(model=model, args=arguments, train_dataset=ViewsDataset(rows, views, patch_size=8, seed=0))
trainer.train()
trainer.push_to_hub()
"""

LOAD = """
import synclr_hf
from transformers import AutoModelForPreTraining

model = AutoModelForPreTraining.from_pretrained("ada/under-way")
print(type(model).__name__, model.config.encoder_config.hidden_size)
"""


def test_a_training_pushes_itself(hub):
    hub.python(TRAIN.replace("HUB_STRATEGY", "checkpoint"))
    names = hub.files("ada/under-way").keys()
    assert {"config.json", "model.safetensors", "README.md", "last-checkpoint/optimizer.pt"} <= names
    assert hub.repository("ada/under-way").private
    assert hub.python(LOAD).split() == ["SynCLRForPreTraining", "32"]
