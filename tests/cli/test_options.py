"""Options of the stages that make data sets: what is read, and what is refused in one line."""

import re
import subprocess
import sys
from dataclasses import fields

import pytest

from synclr_hf.captions.background_lists import BackgroundsConfig
from synclr_hf.captions.deduplication import DeduplicationConfig
from synclr_hf.captions.stage import CaptionsConfig
from synclr_hf.cli.options import documented, stage_options
from synclr_hf.cli.plan import PlanConfig
from synclr_hf.errors import UserInputError
from synclr_hf.images.config import ImagesConfig
from synclr_hf.images.import_stage import ImportConfig


def options(*typed, cls=CaptionsConfig, stage="captions"):
    return stage_options(cls, stage, list(typed), executors=True)


def test_counts_and_folders():
    assert options("--num-captions", "1M").config.num_captions == 1_000_000
    assert options().config.output_dir == "outputs/captions"
    assert options("--push-to-hub", "ada/birds").config.output_dir == "outputs/birds"
    assert options("--push-to-hub=ada/birds", "--output-dir", "here").config.output_dir == "here"
    target = options("--push-to-hub", "ada/birds", "--private").target
    assert (target.repo_id, target.private, target.replace) == ("ada/birds", True, False)


def test_an_option_too_few(capsys):
    with pytest.raises(UserInputError, match="--private is for a data set that is published; type --push-to-hub ORG/"):
        options("--private")
    with pytest.raises(UserInputError, match="unknown option '--number'.*; type synclr captions --help"):
        options("--number", "3")
    with pytest.raises(SystemExit):
        options("--num-captions", "many")
    assert "'many' is no whole number; write 1000, 10k or 1M" in capsys.readouterr().err


@pytest.mark.parametrize(
    "cls", [CaptionsConfig, BackgroundsConfig, DeduplicationConfig, ImagesConfig, ImportConfig, PlanConfig]
)
def test_the_help_says_what_every_option_is(cls, capsys):
    with pytest.raises(SystemExit):
        options("--help", cls=cls, stage="stage")
    told = " ".join(capsys.readouterr().out.split())
    assert "Attributes:" not in told and "(default: " in told
    helps = documented(cls)[1]
    assert helps.keys() == {field.name for field in fields(cls)}
    assert all(re.sub(r"\s", "", text[:60]) in re.sub(r"\s", "", told) for text in helps.values())


def test_a_reader_who_has_seen_enough(environment):
    """`synclr concepts imagenet1k | head -1` ends without a traceback."""
    program = "import sys; from synclr_hf.cli.main import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", program, "concepts", "flowers", "--draws", "1k"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        process.stdout.close()
        told = process.stderr.read().decode()
    assert process.returncode == 141 and told == ""


def test_output_is_short_for_output_dir():
    assert options("--output", "here").config.output_dir == "here" == options("--output-dir", "here").config.output_dir
