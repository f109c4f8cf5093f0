"""Training on rows that are read block by block: stopped and resumed, it is the uninterrupted training."""

import json

import pytest
import torch
from image_sets import write_images
from tiny_pretraining import ENCODER, OBJECTIVES, arguments, assert_equal_weights, build_model, losses

from synclr_hf.data.parquet_rows import ParquetRows
from synclr_hf.errors import UserInputError
from synclr_hf.training import SynCLRTrainer
from synclr_hf.training.stage import PretrainingConfig, pretrain
from synclr_hf.views import BlockSampler, ViewsConfig, ViewsDataset

VIEWS = {"global_crop_size": 32, "local_crop_size": 16, "num_local_crops": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """22 rows: an epoch has 5 steps of 4, or 4 with two workers, and the sixth step lies in the second epoch."""
    return write_images(tmp_path_factory.mktemp("blocks") / "images", rows=22, rows_per_shard=9, rows_per_block=3)


def trained(images, output, workers, resume=None):
    settings = {"max_steps": 6, "save_steps": 3, "dataloader_num_workers": workers}
    dataset = ViewsDataset(ParquetRows(images), ViewsConfig(**VIEWS), patch_size=8, seed=0)
    trainer = SynCLRTrainer(model=build_model(), args=arguments(output, **settings), train_dataset=dataset)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.mark.parametrize(("workers", "lanes", "rows"), [(0, 1, 20), (2, 2, 16)])
def test_three_steps_and_a_resume_equal_six_steps(folder, tmp_path, workers, lanes, rows):
    whole = trained(folder, tmp_path / "whole", workers)
    resumed = trained(folder, tmp_path / "resumed", workers, resume=str(tmp_path / "whole/checkpoint-3"))
    sampler = resumed._get_train_sampler()
    assert isinstance(sampler, BlockSampler)
    assert (sampler.lanes, sampler.batch_size, len(sampler)) == (lanes, 4, rows), "the lanes are the workers"
    assert_equal_weights(resumed, whole)
    assert losses(resumed) == losses(whole) and len(losses(whole)) == 6
    start = build_model().state_dict()
    assert not torch.equal(
        whole.model.state_dict()["student.embeddings.cls_token"], start["student.embeddings.cls_token"]
    )


def config(images, output, **changes):
    training = {"max_steps": 2, "per_device_train_batch_size": 4, "use_cpu": True, "disable_tqdm": True}
    encoder = {name: value for name, value in ENCODER.items() if name != "image_size"}
    settings = {"encoder": encoder, "objectives": OBJECTIVES, "views": VIEWS, "training_arguments": training}
    return PretrainingConfig(**{"output_dir": str(output), "images": str(images), **settings, **changes})


def test_the_stage_streams_and_remembers_what_it_read(folder, tmp_path):
    pretrain(config(folder, tmp_path / "streamed", streaming=True))
    run = json.loads((tmp_path / "streamed/run.json").read_text())
    assert run["rows"] == 22 and run["configuration"]["streaming"] is True
    assert run["configuration"]["images_fingerprint"] == ParquetRows(folder).fingerprint
    with pytest.raises(UserInputError, match="another configuration: streaming True there, False now"):
        pretrain(config(folder, tmp_path / "streamed"))


@pytest.mark.parametrize("streaming", [False, True])
def test_an_unfinished_images_set_is_refused_either_way(tmp_path, streaming):
    images = write_images(tmp_path / "images", rows=22, rows_per_shard=9)
    (images / "shards/00001.json").unlink()
    with pytest.raises(UserInputError, match="is not finished: 2 of 3 shards; finish it first: type synclr images"):
        pretrain(config(images, tmp_path / "out", streaming=streaming))
