"""`synclr plan`: arithmetic against numbers worked out by hand, probes that really measure, and what is refused."""

import json
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from commands import RECIPE
from llm_server import LanguageServer

from synclr_hf.captions.stage import CaptionsConfig
from synclr_hf.cli.estimates import Files, Rate, StageWork, stage_cost, total_cost, training_of
from synclr_hf.cli.parameters import checkpoint_bytes
from synclr_hf.cli.plan import PROCESSES, PlanConfig, make_plan
from synclr_hf.cli.plan_communication import communication_of
from synclr_hf.cli.plan_text import amount, data_size, duration, plan_text
from synclr_hf.cli.probe import probe_captions, probe_images
from synclr_hf.cli.recipe import load_recipe, packaged_recipes
from synclr_hf.errors import UserInputError
from synclr_hf.images.config import ImagesConfig
from synclr_hf.toyworld.image_generator import ToyImageGenerator
from synclr_hf.training.communication import Cluster

GIVEN = {"captions_per_second": 357.0, "images_per_second": 1.22, "train_images_per_second": 1120.0}


def given(**changes):
    return make_plan(PlanConfig(**{"captions": 150_000_000, **GIVEN, **changes}))


def work(amount, rate, pieces=1000, stage="images"):
    return StageWork(stage, amount, "pictures", pieces, rate)


def test_hours_of_the_papers_data_set():
    """600M / 1.22 / 3600 = 136,612; 5.25B tokens / 12,500 / 3600 = 117; 16.384B / 1120 / 3600 = 4,063 hours."""
    captions, images, training = (stage_cost(one, (1, 64), 2.5) for one in given().works)
    assert images.device_hours == pytest.approx(136_612, abs=1)
    assert captions.device_hours == pytest.approx(5.25e9 / 12_500 / 3600, rel=0.001) == pytest.approx(116.7, abs=0.1)
    assert training.device_hours == pytest.approx(4_063.5, abs=0.1)
    assert images.price == pytest.approx(341_530, abs=1)
    assert images.wall_seconds[64] / 86_400 == pytest.approx(88.94, abs=0.01)
    total = total_cost(given().works, (1,), 2.5)
    assert total.device_hours == pytest.approx(136_612 + 116.7 + 4_063.5, abs=1)
    assert total.price == pytest.approx(2.5 * total.device_hours)


def test_devices_share_out_whole_pieces_and_load_once_each():
    cost = stage_cost(work(1000, Rate(10.0, load_seconds=7), pieces=4), (1, 2, 3, 4, 64))
    assert cost.wall_seconds == {1: 107, 2: 57, 3: 57, 4: 32, 64: 32}  # three devices: one makes two of four shards
    assert cost.device_hours == 100 / 3600 and cost.price is None


def test_hours_of_a_cpu_are_no_gpu_hours():
    cpu = Rate(10.0, "2 cores of a CPU", is_gpu=False, is_measured=True)
    assert stage_cost(work(1000, cpu), (1,), price=2.5).price is None
    assert total_cost([work(1000, cpu), work(1000, Rate(10.0))], (1,)) is None
    assert total_cost([work(1000, cpu), work(1000, None)], (1,)) is None
    assert total_cost([work(1000, cpu)] * 2, (1,)).device_hours == 200 / 3600


def test_pictures_of_a_training():
    def pictures(name, **changes):
        pretraining = load_recipe(name).pretraining
        settings = {"captions": 3000, "images_per_caption": 4, "processes": PROCESSES.get(name, 1), **changes}
        return training_of(pretraining, **settings).pictures

    assert pictures("synclr_vitb16") == pictures("synclr_vitl14") == 500_000 * 8192 * 4
    assert pictures("ablation_vitb16") == 85_000 * 2048 * 4
    assert pictures("simclr") == 85_000 * 4096  # one picture of a caption, two crops of it
    assert pictures("single_gpu") == 100_000 * 512 * 4
    assert pictures("synclr_vitb16", captions_per_step=100) == 500_000 * 100 * 4
    epochs = {"training_arguments": {"num_train_epochs": 2, "per_device_train_batch_size": 30}}
    assert training_of(epochs, captions=3000, images_per_caption=4).pictures == 2 * 3000 * 4


@pytest.mark.parametrize("recipe", packaged_recipes())
def test_bytes_of_checkpoints_are_those_of_the_model(recipe):
    """The plan counts parameters by hand, without torch; here is torch."""
    import torch

    from synclr_hf.training import SynCLRForPreTraining, SynCLRPreTrainingConfig

    pretraining = load_recipe(recipe).pretraining
    views, encoder = pretraining.get("views") or {}, pretraining.get("encoder") or {}
    sizes = {"image_size": views.get("global_crop_size", 224), **encoder}
    config = SynCLRPreTrainingConfig(encoder_config=sizes, objectives=pretraining.get("objectives"))
    with torch.device("meta"):
        model = SynCLRForPreTraining(config)
    saved = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert checkpoint_bytes(pretraining) == (4 * saved, 4 * (saved + 2 * trained))


def test_communication_of_the_papers_training():
    """132,043,520 trained parameters; keys of 256 floats and two ids of each picture; four times 65,536 floats."""
    one, eight, many = given(gpus=[1, 8, 64]).communication
    assert one.sent_bytes["total"] == 0 and one.efficiency == 1
    assert (eight.captions_each, many.captions_each) == (1024, 128)
    assert many.sent_bytes["gradients"] == pytest.approx(2 * 63 / 64 * 132_043_520 * 4)
    assert many.sent_bytes["keys"] == pytest.approx(63 * 128 * 4 * 256 * 4)
    assert many.sent_bytes["ids"] == pytest.approx(63 * 128 * 4 * 2 * 8)
    assert many.sent_bytes["prototypes"] == pytest.approx(4 * 2 * 63 / 64 * 65_536 * 4)
    assert many.sent_bytes["total"] == sum(size for part, size in many.sent_bytes.items() if part != "total")
    assert many.compute_seconds == pytest.approx(512 / 1120)
    supervised = make_plan(PlanConfig(config="supcon", captions=1000, **GIVEN, gpus=[8])).communication[0]
    assert "prototypes" not in supervised.sent_bytes and supervised.sent_bytes["gradients"] < 924e6


def test_efficiency_is_in_the_days_where_it_is_known():
    def days(**changes):
        plan = given(gpus=[64], **changes)
        return stage_cost(plan.works[2], (64,)).wall_seconds[64] / 86_400, plan.communication[0].efficiency

    fast, high = days()
    slow, low = days(network_bandwidth=0.1)
    alone = 16.384e9 / 1120 / 86_400 / 64
    assert 0.99 < high < 1 and fast == pytest.approx(alone / high)
    assert 0 < low < 0.5 and slow == pytest.approx(alone / low)
    text = plan_text(given(gpus=[64], network_bandwidth=12.5))
    assert "a GPU sends 400 GB/s within its machine and 12.5 GB/s to others" in unwrapped(text)
    row = next(line.split() for line in text.splitlines() if line.startswith("64 GPUs"))
    assert row[2:4] == ["128", "1.08"] and row[-1].endswith("%")


def test_without_a_rate_of_a_gpu_the_volume_alone_is_told():
    known = given()
    cpu = Rate(10.0, "2 cores of a CPU", is_gpu=False, is_measured=True)
    recipe = load_recipe("synclr_vitb16").pretraining
    for rate in (None, cpu):
        steps = communication_of(recipe, known.training, rate, (8,), Cluster())
        assert steps[0].efficiency is None and steps[0].sent_bytes == known.communication[1].sent_bytes
        text = plan_text(replace(known, communication=steps))
        assert "sent by each" in text and "waiting" not in text


def test_units():
    assert [duration(x) for x in (0.5, 90, 3600, 172_800, 4.93e8)] == [
        "0.50 s",
        "1.50 min",
        "1.00 h",
        "2.00 days",
        "15.6 years",
    ]
    assert [data_size(x) for x in (812, 29_000, 17.4e12)] == ["812 B", "29.0 kB", "17.4 TB"]
    assert [amount(x) for x in (3000, 150_000_000, 16.384e9)] == ["3,000", "150M", "16.38B"]


def test_advice_on_files():
    def files(rows, rows_per_shard, row_bytes):
        return Files("images", rows, rows_per_shard, row_bytes, 0.305)

    assert files(150_000_000, 256, 116_000).suggestion == 2000
    assert files(150_000_000, 2000, 116_000).suggestion is None
    assert files(150_000_000, 2000, 116_000).file_seconds == pytest.approx(8000 / 1.22)
    assert files(150_000_000, 2000, 116_000).rows_for_the_hub == 15_000
    assert files(10_000, 256, 116_000).rows_for_the_hub is None
    assert (
        files(10_000_000_000, 2000, 400).suggestion == 100_000
    )  # more rows of a file than is comfortable: it must be
    assert files(10_000_000, 1000, 400).suggestion == 10_000
    assert files(3000, 100, 400).suggestion is None  # few tiny files hurt nobody


def test_storage():
    sizes = {item.what: item for item in given(bytes_per_image=20_000.0).storage}
    assert sizes["pictures"].size == sizes["pictures, copied"].size == 600e6 * 20_000
    assert "given" in sizes["pictures"].source
    assumed = {item.what: item for item in given(size=512).storage}["pictures"]
    assert assumed.size == 600e6 * 29_000 * 4 and "assumed: 116.0 kB a picture of 512 px" in assumed.source


def test_given_rates_load_nothing_heavy(environment, tmp_path):
    program = (
        "import sys; from synclr_hf.cli.plan import main; main(sys.argv[1:]); "
        "print('heavy:', sorted({'torch', 'diffusers', 'datasets'} & set(sys.modules)))"
    )
    options = [f"--{name.replace('_', '-')}={rate}" for name, rate in GIVEN.items()]
    typed = ["--captions", "150M", *options, "--price", "2.5", "--gpus", "1", "64", "images.rows_per_shard=2000"]
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program, *typed, "--json", str(tmp_path / "plan.json")],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert done.stdout.endswith("heavy: []\n") and time.monotonic() - start < 15
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) < 120
    row = next(line.split() for line in lines if line.startswith("images "))
    assert row == "images 600M pictures 1.22/s 136,612 341,530 15.6 years 88.9 days GPU, rate as given".split()
    assert "published" not in done.stdout
    told = json.loads((tmp_path / "plan.json").read_text())
    assert told["total"]["device_hours"] == pytest.approx(140_792, abs=1)
    assert told["files"][1]["count"] == 75_000 and told["training"]["pictures"] == 16_384_000_000
    assert [one["devices"] for one in told["communication"]] == [1, 64]
    assert 0.99 < told["communication"][1]["efficiency"] < 1 and told["network_bandwidth"] == 50


def test_a_stage_without_rate_or_model_says_what_to_type():
    text = plan_text(given(captions_per_second=None, images_per_second=None))
    assert (
        "no rate is known; type --language-model MODEL to measure it here, or --captions-per-second RATE"
        in unwrapped(text)
    )
    assert "published, for comparison" in text and "1.22 pictures/s: Stable Diffusion 1.5" in text
    assert "no total" in text and "total  " in text  # that of the storage


def unwrapped(text):
    return " ".join(text.split())


def test_probes_measure(synclr_here, tmp_path, monkeypatch):
    """Every stage of a small recipe for a moment: the rates, sizes and device are real, and nothing stays behind."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "out").mkdir()
    file = tmp_path / "out" / "plan.json"
    done = synclr_here("plan", "--config", RECIPE, "--probe-seconds", "0.3", "--price", "9", "--json", file)
    assert done.returncode == 0, done.stderr
    told = json.loads(file.read_text())
    captions, images, training = (one["rate"] for one in told["works"])
    assert 100 < captions["per_second"] < 100_000 and 10 < images["per_second"] < 10_000
    assert 1 < training["per_second"] < 100_000
    assert all(one["is_measured"] and one["device"] for one in (captions, images, training))
    assert captions["device"].startswith("one core of ")
    words = unwrapped(done.stdout)
    assert "measured on pictures of the toy world" in words and "assumed" not in words.partition("assumptions:")[0]
    if not training["is_gpu"]:
        assert "GPU-hours" not in done.stdout.splitlines()[3] and all(
            one["cost"]["price"] is None for one in told["works"]
        )
    rows = told["captions"] * told["images_per_caption"]
    assert (
        500 < told["storage"][1]["size"] / rows < 50_000 and 10 < told["storage"][0]["size"] / told["captions"] < 400
    )
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("synclr_plan")] == []


def test_a_server_is_no_gpu():
    """Half of the captions lack their concept: the rate is that of those that are kept."""
    wrong = iter(range(10**9))

    def write(prompt, body):
        concept = prompt.splitlines()[-1].partition("=>")[0].strip()
        return f"a {concept} number {next(wrong)} in the sun" if next(wrong) % 4 else "nothing of the kind"

    with LanguageServer(write, delay=0.005) as server:
        settings = {"language_model": "openai-completions:m", "base_url": server.url, "batch_size": 4}
        config = CaptionsConfig("nowhere", concepts="flowers", rows_per_shard=10, **settings)
        found = probe_captions(config, 0.5)
    assert found.rate.device == "the server" and not found.rate.is_gpu
    assert 10 < found.rate.per_second < 4 / 0.005 and found.row_bytes > 10
    assert any("were kept, which the rate includes" in remark for remark in found.rate.remarks)


def test_a_batch_that_does_not_fit_is_halved(monkeypatch):
    """Only a GPU can run out of memory: the training is played, the steps down are real."""
    import torch

    from synclr_hf.cli.probe_training import _Trial, trial_config

    config = trial_config(load_recipe(str(RECIPE)))
    tried = []

    def train(self, batch, steps):
        tried.append(batch)
        if batch > 2:
            raise torch.OutOfMemoryError
        self.clock.steps, self.batch = [9.0, 0.5, 0.5], batch

    monkeypatch.setattr(_Trial, "train", train)
    trial = _Trial(config, torch.nn.Linear(1, 1), 4, 64, 1.0)
    trial.on_gpu()
    found = trial.found(0.0).rate
    assert tried == [8, 4, 2] and found.per_second == 2 * 4 * 2 / 1.0
    assert "the recipe's batch of 8 did not fit into the probe" in found.remarks


def test_a_model_too_slow_for_the_probe_is_not_waited_for(monkeypatch):
    class Slow(ToyImageGenerator):
        def draw(self, *args):
            time.sleep(60)

    monkeypatch.setattr("synclr_hf.toyworld.image_generator.ToyImageGenerator", Slow)
    found = probe_images(ImagesConfig("nowhere", "nowhere", size=32), 0.05)
    assert found.rate is None and found.failure == "the first batch was not finished within 0.3 s"


def test_a_slow_model_tells_what_its_first_batch_took(monkeypatch):
    draw = ToyImageGenerator.draw

    class Slow(ToyImageGenerator):
        def draw(self, *args):
            time.sleep(0.05)
            return draw(self, *args)

    monkeypatch.setattr("synclr_hf.toyworld.image_generator.ToyImageGenerator", Slow)
    found = probe_images(ImagesConfig("nowhere", "nowhere", size=32), 0.3)
    assert 2 < found.rate.per_second < 20 and "its warm-up included" in found.rate.remarks[0]
    steady = probe_images(ImagesConfig("nowhere", "nowhere", size=32, batch_size=4), 0.4)
    assert 5 < steady.rate.per_second < 20 and steady.rate.remarks == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"captions": 0}, "--captions 0 cannot be used; allowed: a whole number, 1 or more; type --captions 1000"),
        ({"captions": None}, "--captions is missing; .* type --captions 150M, or --config synclr_vitb16"),
        ({"images_per_second": float("nan")}, "--images-per-second nan cannot be used; allowed: a number, greater"),
        ({"captions_per_second": -1.0}, "--captions-per-second -1.0 cannot be used"),
        ({"gpus": [8, 0]}, "--gpus 0 cannot be used"),
        ({"price": 0.0}, "--price 0.0 cannot be used"),
        ({"network_bandwidth": 0.0}, "--network-bandwidth 0.0 cannot be used; .*; type --network-bandwidth 50"),
        ({"config": "synclr_vitb61"}, "unknown recipe 'synclr_vitb61' .did you mean 'synclr_vitb16'"),
        ({"images_per_caption": 1}, "--images-per-caption 1 cannot be used: the pictures of one caption"),
        (
            {"images_per_second": None, "image_generator": "nonsense"},
            "unknown image generator 'nonsense'.*; or give its rate: type --images-per-second RATE",
        ),
        ({"captions_per_second": None, "language_model": "nonsense"}, "unknown language model 'nonsense'"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(UserInputError, match=message):
        given(**settings)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pretraining.training_arguments.max_steps=many", "max_steps 'many' cannot be used; allowed: a number"),
        ("pretraining.encoder=5", "section 'encoder' is 5; allowed: entries"),
        ("pretraining.objectives=5", "objectives 5: allowed: a list"),
        ("images.rows_per_shard=0", "--rows-per-shard 0 cannot be used"),
    ],
)
def test_bad_recipes(override, message):
    with pytest.raises(UserInputError, match=message):
        make_plan(PlanConfig(captions=1000, **GIVEN), [override])


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(synclr_here, tmp_path):
    done = synclr_here("plan", "--captions", "1k", "--language-model", "toy", "--json", tmp_path / "no" / "plan.json")
    assert done.returncode == 2 and "plan.json cannot be written" in done.stderr and "probing" not in done.stderr
