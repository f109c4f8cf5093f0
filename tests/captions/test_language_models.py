import pickle
import subprocess
import sys

import pytest

from synclr_hf.captions.language_models import (
    CutOff,
    LanguageModelOptions,
    Refused,
    cut_at,
    find_language_model,
    holds,
)
from synclr_hf.captions.writer import first_line
from synclr_hf.errors import UserInputError


def test_a_back_end_carries_the_options_that_its_class_takes():
    options = LanguageModelOptions(batch_size=8, base_url="http://host:8000/v1")
    found = find_language_model("openai:org/name:7b", options)
    assert found.model == "org/name:7b"
    assert dict(found.options) == {"batch_size": 8, "base_url": "http://host:8000/v1"}
    assert pickle.loads(pickle.dumps(found)) == found
    local = find_language_model("org/name", LanguageModelOptions(dtype="float16", device_map="auto"))
    assert dict(local.options) == {"batch_size": 64, "dtype": "float16", "device_map": "auto"}
    assert local.default_workers == 1


def test_the_toy_pays_a_batch_size_no_heed():
    found = find_language_model("toy", LanguageModelOptions(batch_size=7))
    assert found.options == () and found == find_language_model("toy")
    assert found.load().name == "toyworld-grammar"


@pytest.mark.parametrize(
    ("spec", "options", "line"),
    [
        (
            "toy",
            {"base_url": "http://host:8000/v1"},
            "--base-url is for openai:MODEL and openai-completions:MODEL, not for 'toy'; leave it out, or type "
            "--language-model openai:MODEL --base-url http://host:8000/v1",
        ),
        (
            "openai:llama",
            {"dtype": "float16"},
            "--dtype is for transformers:ORG/NAME, not for 'openai:llama'; leave it out, or type "
            "--language-model transformers:ORG/NAME --dtype float16",
        ),
        ("toy", {"device_map": "auto"}, "--device-map is for transformers:ORG/NAME, not for 'toy'"),
    ],
)
def test_an_option_of_another_back_end_is_refused(spec, options, line):
    with pytest.raises(UserInputError) as caught:
        find_language_model(spec, LanguageModelOptions(**options))
    assert str(caught.value).startswith(line) and "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"batch_size": 0}, "--batch-size 0 cannot be used"),
        (
            {"dtype": "int8"},
            "--dtype int8 cannot be used; allowed: auto, bfloat16, float16, float32; type --dtype auto",
        ),
        (
            {"base_url": "host:8000"},
            "--base-url host:8000 is no address of a server; type --base-url http://HOST:PORT/v1",
        ),
        ({"base_url": "http://me:secret@host/v1"}, "--base-url holds a user, a password or a query, which the card"),
        ({"base_url": "http://host/v1?key=secret"}, "--base-url holds a user, a password or a query, which the card"),
    ],
)
def test_options_that_cannot_be_used(options, line):
    with pytest.raises(UserInputError) as caught:
        LanguageModelOptions(**options)
    assert str(caught.value).startswith(line) and "secret" not in str(caught.value)


def test_a_server_needs_the_name_of_a_model():
    with pytest.raises(UserInputError, match="does not say which model; type --language-model openai:MODEL"):
        find_language_model("openai")
    with pytest.raises(UserInputError, match="openai:MODEL, openai-completions:MODEL, transformers:ORG/NAME"):
        find_language_model("vllm:org/name")


def test_looking_a_model_up_loads_no_library():
    specs = "'toy', 'openai:m', 'openai-completions:m', 'org/name'"
    code = f"from synclr_hf.captions.language_models import find_language_model as f; [f(s) for s in ({specs})]; "
    check = "import sys; print([m for m in ('torch', 'transformers', 'httpx', 'httpx2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code + check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_stop_strings():
    assert cut_at("An owl.\nA wren; ", ("; ", "\n", "")) == "An owl."
    assert holds("An owl.\n", ("; ", "\n")) and not holds("An owl.", ("\n", ""))


@pytest.mark.parametrize(
    ("completion", "line"),
    [
        (CutOff(" An owl on"), CutOff("An owl on")),
        (CutOff('"An owl"'), CutOff("An owl")),
        (CutOff(" An owl.\nA wr"), "An owl."),
        (Refused("400:\nno"), Refused("400:\nno")),
        (" An owl.", "An owl."),
    ],
)
def test_a_first_line_keeps_its_mark(completion, line):
    assert first_line(completion) == line and type(first_line(completion)) is type(line)
