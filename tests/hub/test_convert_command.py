"""`synclr convert` and its script: folders that load, and what is told about them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from tiny_originals import checkpoint, encoder, prefixed, saved, training
from transformers import AutoModel, BitImageProcessorPil

from synclr_hf.cli.main import main
from synclr_hf.hub import convert_original
from synclr_hf.training import SynCLRForPreTraining

SCRIPT = Path(__file__).parents[2] / "scripts" / "convert_original.py"


@pytest.fixture
def convert(capsys):
    """Run `synclr convert ...` in this process; return its exit status, output lines and error lines."""

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["convert", *map(str, arguments), "--num-attention-heads", "2"])
        output, errors = capsys.readouterr()
        told = [line for line in errors.replace("\r", "\n").splitlines() if line.startswith("synclr: error:")]
        return ended.value.code, output.splitlines(), told

    return run


def test_the_script_writes_folders_that_load_and_tells_how_equal_they_are(tmp_path):
    weights = prefixed("module.visual.", encoder()) | {"module.logit_scale": torch.zeros(())}
    path = saved(tmp_path, {"model": weights}, "tiny.pth")
    command = f"--checkpoint {path} --output encoder --dinov2 dinov2 --num-attention-heads 2"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *command.split()],
        cwd=tmp_path,
        env={**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    inferred, left_out, first, second, *folders = done.stdout.splitlines()
    assert inferred.startswith("inferred: hidden_size 32, num_hidden_layers 2, num_attention_heads 2 (as given)")
    assert "image_size 32" in inferred and "use_mask_token False" in inferred
    assert left_out == "left out: logit_scale: the image-text projections of StableRep+"
    for line, part in ((first, "dinov2"), (second, "encoder")):
        difference = re.fullmatch(rf"maximum absolute difference .* weights, {part} loaded again: (\S+)", line)
        assert float(difference[1]) < 1e-5
    assert folders == [f"dinov2: {tmp_path}/dinov2", f"encoder: {tmp_path}/encoder"]
    picture = torch.randn(1, 3, 32, 32)
    ours, copy = (AutoModel.from_pretrained(tmp_path / name) for name in ("encoder", "dinov2"))
    assert torch.equal(ours(picture).last_hidden_state, copy(picture).last_hidden_state)
    names = {file.name for file in (tmp_path / "encoder").iterdir()}
    assert {"model.safetensors", "modeling_synclr.py", "configuration_synclr.py", "README.md"} <= names
    assert BitImageProcessorPil.from_pretrained(tmp_path / "encoder").crop_size["height"] == 32
    card = ModelCard.load(tmp_path / "encoder" / "README.md")
    assert "converted from `tiny.pth`" in card.text and "one encoder" in card.text and card.data.license is None


def test_the_whole_training_state_is_written_and_its_teacher_is_the_encoder(convert, tmp_path):
    path = checkpoint(tmp_path, avoid_local_global_same=True, centering="centering")
    status, output, _ = convert("--checkpoint", path, "--output-dir", tmp_path / "state", "--pretraining")
    assert status == 0
    assert "setting: multi_positive.temperature 0.1 (--contrast_temperature of the file)" in output
    assert "left out: ibot_loss.center: the centre of the targets, which Sinkhorn-Knopp does without" in output
    assert any(line.startswith("left out: optimizer, scaler: ") for line in output)
    assert "setting: multi_positive.local_excludes_own_crop True (--avoid_local_global_same of the file)" in output
    assert any(line.startswith("goes on differently: --centering centering") for line in output)
    assert output[-1] == f"pretraining: {tmp_path}/state"
    state = SynCLRForPreTraining.from_pretrained(tmp_path / "state")
    assert state.student.config.interpolate_offset == state.synclr.config.interpolate_offset == 0.1
    for weights in ("teacher", "student"):
        status, output, _ = convert("--checkpoint", path, "--output-dir", tmp_path / "encoder", "--weights", weights)
        other = {"teacher": "student", "student": "teacher"}[weights]
        assert status == 0 and any(f"left out: {other}.backbone (31 tensors)" in line for line in output)
        written = AutoModel.from_pretrained(tmp_path / "encoder").state_dict()
        kept = {"teacher": state.synclr, "student": state.student}[weights].state_dict()
        assert written.keys() == kept.keys() and all(torch.equal(written[name], kept[name]) for name in kept)
        assert f"the weights of the {weights}" in (tmp_path / "encoder" / "README.md").read_text()
    assert json.loads((tmp_path / "encoder" / "config.json").read_text())["interpolate_offset"] == 0


def test_mistakes_are_one_line_and_write_nothing(convert, tmp_path):
    alone = saved(tmp_path, encoder(), "alone.pth")
    pair = saved(tmp_path, training(), "pair.pth")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("x")
    new = tmp_path / "new"
    for arguments, part in [
        (("--checkpoint", tmp_path / "none.pth", "--output-dir", new), "cannot be read: No such file"),
        (("--checkpoint", alone, "--output-dir", tmp_path / "thesis"), "--output-dir '.*thesis' holds other things"),
        (("--checkpoint", alone, "--output-dir", new, "--dinov2", tmp_path / "thesis"), "--dinov2 '.*thesis' holds"),
        (("--checkpoint", alone, "--output-dir", new, "--dinov2", new), "two folders side by side"),
        (("--checkpoint", alone, "--output-dir", new / "a", "--dinov2", new), "two folders side by side"),
        (("--checkpoint", alone, "--output-dir", tmp_path), "holds other things"),
        (("--checkpoint", alone, "--output-dir", new, "--weights", "ema"), "weights 'ema'; allowed: teacher, student"),
        (("--checkpoint", alone, "--output-dir", new, "--pretraining"), "no student and teacher"),
        (
            ("--checkpoint", pair, "--output-dir", new, "--pretraining", "--weights", "student"),
            "leave one of them out",
        ),
        (("--checkpoint", pair, "--output-dir", tmp_path / "thesis", "--pretraining"), "holds other things"),
    ]:
        status, output, told = convert(*arguments)
        assert status == 2 and output == [] and len(told) == 1 and re.search(part, told[0]), (arguments, told)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.pth", "pair.pth", "thesis"]


def test_a_checkpoint_inside_an_earlier_encoder_is_not_deleted_with_it(convert, tmp_path):
    path = saved(tmp_path, encoder())
    assert convert("--checkpoint", path, "--output-dir", tmp_path / "encoder")[0] == 0
    moved = path.rename(tmp_path / "encoder" / "checkpoint.pth")
    status, _, told = convert("--checkpoint", moved, "--output-dir", tmp_path / "encoder")
    assert status == 2 and "holds the checkpoint" in told[0] and moved.is_file()
    assert convert_original(moved, num_attention_heads=2).config.hidden_size == 32
