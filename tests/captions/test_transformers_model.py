import logging
import shutil
from pathlib import Path

import pytest
from byte_llama import save_tiny_llama, tiny_tokenizer

from synclr_hf.captions import padded_batches
from synclr_hf.captions.continuous_batches import complete_continuously, halved, worth_it
from synclr_hf.captions.language_models import LANGUAGE_MODELS, CutOff, LanguageModelOptions, find_language_model
from synclr_hf.captions.stage import CaptionsConfig, write_captions
from synclr_hf.errors import UserInputError

OPTIONS = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 12}
GREEDY = {**OPTIONS, "temperature": 0.0}
PROMPTS = ["cat => A cat sleeps.\ndog =>", "a much longer line of words, so that padding is needed =>", "owl =>"]
MANY = [f"{'word ' * (number % 7)}concept {number} =>" for number in range(20)]
ON_CPU = {"num_blocks": 16, "max_batch_tokens": 256}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def model(folder):
    return load(folder)


def load(folder, **options):
    return find_language_model(str(folder), LanguageModelOptions(**options)).load()


def complete(model, prompts=MANY, stop=("\n",), first_seed=0, **options):
    seeds = range(first_seed, first_seed + len(prompts))
    return model.complete(prompts, seeds=seeds, stop=stop, **{**OPTIONS, **options})


def test_one_completion_a_prompt_without_the_prompt(model):
    texts = model.complete(PROMPTS, seeds=[1, 2, 3], stop=(), **OPTIONS)
    assert len(texts) == 3 and all(texts)
    assert not any(text.startswith(prompt[:3]) for text, prompt in zip(texts, PROMPTS, strict=True))
    assert model.complete([], seeds=[], stop=(), **OPTIONS) == []


def test_the_seeds_decide_and_the_global_generator_is_left_alone(model):
    import torch

    state = torch.get_rng_state()
    first, second = (model.complete(PROMPTS, seeds=[1, 2, 3], stop=(), **OPTIONS) for _ in range(2))
    other = model.complete(PROMPTS, seeds=[1, 2, 4], stop=(), **OPTIONS)
    assert first == second != other
    assert torch.equal(torch.get_rng_state(), state)


def test_padding_and_batches_change_nothing_for_greedy_sampling(model, folder):
    together = complete(model, **GREEDY)
    alone = [complete(model, [prompt], **GREEDY)[0] for prompt in MANY]
    assert together == alone == complete(load(folder, batch_size=3), **GREEDY)


def test_it_stops_before_the_first_stop_string(model):
    full = model.complete(PROMPTS, seeds=[1, 2, 3], stop=(), **OPTIONS)
    stop = full[0][4]
    cut = model.complete(PROMPTS, seeds=[1, 2, 3], stop=(stop,), **OPTIONS)
    assert cut[0] == full[0][: full[0].index(stop)]
    assert not any(stop in text for text in cut)


def test_stopping_at_tokens_gives_what_stop_strings_of_transformers_give(model):
    """The ids of tokens that contain the string, found once, instead of a search in every step."""
    texts = complete(model, stop=(), **GREEDY)
    stop = texts[0][len(texts[0]) // 2]
    theirs = []
    for prompt in MANY:
        inputs = model._tokenizer([prompt], return_tensors="pt")
        tokens = model._model.generate(
            **inputs,
            max_new_tokens=12,
            do_sample=False,
            stop_strings=[stop],
            tokenizer=model._tokenizer,
            pad_token_id=1,
        )
        text = model._tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        theirs.append(text.partition(stop)[0])
    before = model.usage["completion_tokens"]
    assert complete(model, stop=(stop,), **GREEDY) == theirs
    assert model.usage["completion_tokens"] - before < 12 * len(MANY)  # they did end there


def spied(model, monkeypatch):
    """Note (rows, tokens in the cache) of every call of `generate`."""
    calls, generate = [], model._model.generate

    def noted(**arguments):
        cache = arguments.get(padded_batches._name_of_the_cache())
        calls.append((len(arguments["input_ids"]), cache.get_seq_length() if cache is not None else 0))
        return generate(**arguments)

    monkeypatch.setattr(model._model, "generate", noted)
    return calls


@pytest.mark.parametrize("usable", [True, False])
def test_rows_that_are_done_leave_their_batch_and_the_others_do_not_notice(model, monkeypatch, usable):
    prompts = [f"{'word ' * (number % 7)}concept {number} =>" for number in range(48)]
    options = {**GREEDY, "max_new_tokens": 40, "stop": ("w", ">")}
    alone = [complete(model, [prompt], **options)[0] for prompt in prompts]
    calls, width = spied(model, monkeypatch), max(len(prompt) for prompt in prompts)
    if not usable:  # a cache of another kind than expected: it is computed again
        monkeypatch.setattr(padded_batches, "_rows_of", lambda *_: None)
    assert complete(model, prompts, **options) == alone
    rows, cached = zip(*calls, strict=True)
    assert rows[0] == 48 and all(2 * after <= before for before, after in zip(rows, rows[1:], strict=False))
    assert len(rows) >= 2 and cached[0] == 0 and all((tokens >= width) == usable for tokens in cached[1:])
    drawn = {**options, "temperature": 1.0}
    assert complete(model, prompts, **drawn) == complete(model, prompts, **drawn)


def test_rows_stay_where_the_cache_does_not_hold_every_token(tmp_path, monkeypatch):
    from transformers import MistralConfig, MistralForCausalLM

    model = load(
        save_tiny_llama(
            tmp_path, config=MistralConfig, network=MistralForCausalLM, num_key_value_heads=2, sliding_window=8
        )
    )
    options = {**GREEDY, "stop": tuple("abcdefghijklmnopqrstuvwxyz")}
    alone = [complete(model, [prompt], **options)[0] for prompt in MANY]
    calls = spied(model, monkeypatch)
    assert complete(model, **options) == alone and calls == [(20, 0)]


@pytest.mark.parametrize("continuous", [False, True])
def test_a_text_that_the_length_ended_is_marked(folder, continuous):
    model = load(folder, batch_size=4)
    model._continuous = ON_CPU if continuous else None
    full = complete(model, stop=(), **GREEDY)
    assert all(type(text) is CutOff for text in full)
    stop = (full[0][3],)
    ended = complete(model, stop=stop, **GREEDY)
    assert [type(text) is str for text in ended] == [stop[0] in text for text in full]
    if continuous:
        return
    model._ends_with[stop] = []  # as for a stop string that is spread over several tokens
    assert [type(text) for text in complete(model, stop=stop, **GREEDY)] == [type(text) for text in ended]
    end = model._tokenizer.encode(full[0][5])[-1]
    model._ends, model._ends_with = {end}, {}  # an end of the model's own
    own = complete(model, stop=(), **GREEDY)
    assert type(own[0]) is str and len(own[0]) < len(full[0])
    assert len({type(text) for text in own}) == 2 or all(full[0][5] in text for text in full)


def test_usage_counts_real_tokens(folder):
    model = load(folder)
    complete(model, PROMPTS)
    assert model.usage["prompt_tokens"] == sum(len(prompt) for prompt in PROMPTS)  # one token a byte, no padding
    assert 0 < model.usage["completion_tokens"] <= 3 * 12


def test_continuous_batching_gives_the_greedy_texts_of_padded_batches(folder):
    padded, continuous = load(folder), load(folder, batch_size=4)
    continuous._continuous = ON_CPU
    stop = (complete(padded, stop=(), **GREEDY)[0][3],)
    assert complete(continuous, stop=stop, **GREEDY) == complete(padded, stop=stop, **GREEDY)
    assert continuous.usage["completion_tokens"] == padded.usage["completion_tokens"] - 12 * len(MANY)
    assert complete(continuous) == complete(continuous) != complete(continuous, first_seed=1)
    assert continuous._continuous is ON_CPU  # nothing failed on the way


@pytest.mark.parametrize(
    ("prompts", "batch_size", "worth"),
    [(64, 64, True), (33, 64, True), (32, 64, False), (64, 256, False), (65, 256, True), (2, 1, True), (1, 1, False)],
)
def test_calls_that_are_batched_continuously(prompts, batch_size, worth):
    assert worth_it(prompts, batch_size) is worth


def test_what_continuous_batching_only_logs_comes_back_in_words(model):
    from transformers import GenerationConfig

    config = GenerationConfig(max_new_tokens=4, do_sample=False, eos_token_id=[1], pad_token_id=1)
    done, error = complete_continuously(model._model, [[5, 6], ["no", "ids"]], 0, config, ON_CPU)
    assert len(done) == 2 and done[1] is None and error
    done, error = complete_continuously(model._model, [[5] * 3000, [5, 6]], 0, config, {**ON_CPU, "num_blocks": 2})
    assert done[0] is None and "scheduled" in error
    done, error = complete_continuously(model._model, [[5, 6]], 0, config, {"no_such_setting": 1})
    assert done == [None] and "no_such_setting" in error


def test_after_a_failure_the_attention_is_what_it_was(folder):
    model = load(folder, batch_size=4)
    model._model.set_attn_implementation("eager")
    expected = complete(model, **GREEDY)
    model._continuous = {"num_blocks": 4, "max_batch_tokens": -1}  # fails when the attention is paged already
    assert complete(model, **GREEDY) == expected
    assert model._model.config._attn_implementation == "eager" and model._continuous is None


def test_a_model_that_cannot_be_batched_continuously_goes_on_in_padded_batches(folder, caplog):
    model = load(folder, batch_size=4)
    expected = complete(model, **GREEDY)
    model._continuous = {"no_such_setting": 1}
    with caplog.at_level(logging.WARNING, "synclr_hf"):
        assert complete(model, **GREEDY) == expected
    assert [record.getMessage().partition(": ")[0] for record in caplog.records] == [
        f"'{Path(folder).name}' goes on in padded batches, not continuously"
    ]
    assert model._continuous is None


def test_want_of_memory_halves_the_batch_and_loses_nothing(folder, caplog, monkeypatch):
    import torch

    model = load(folder)
    expected, rows = complete(model, **GREEDY), []
    generate = model._model.generate

    def small_device(input_ids, **arguments):
        rows.append(len(input_ids))
        if len(input_ids) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(input_ids=input_ids, **arguments)

    monkeypatch.setattr(model._model, "generate", small_device)
    with caplog.at_level(logging.WARNING, "synclr_hf"):
        assert complete(model, **GREEDY) == expected
    assert rows == [20, 10, 5, 5, 5, 5]
    assert "5 prompts at once from here on" in caplog.records[-1].getMessage() and len(caplog.records) == 2
    complete(model)
    assert rows[6:] == [5, 5, 5, 5]  # it remembers
    monkeypatch.setattr(model, "_batch_size", 1)
    monkeypatch.setattr(model._model, "generate", out_of_memory)
    with pytest.raises(UserInputError, match="does not hold .* with one prompt; type --device-map auto"):
        complete(model)


def out_of_memory(*_, **__):
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory")


def test_want_of_memory_halves_continuous_batching_until_padded_batches_do_as_well(folder, monkeypatch):
    model = load(folder, batch_size=4)
    expected = complete(model, **GREEDY)
    model._continuous = ON_CPU
    monkeypatch.setattr(model._model, "generate_batch", out_of_memory)
    assert complete(model, **GREEDY) == expected and model._continuous is None
    limits, requests = {}, []
    while (limits := halved(limits)) is not None:
        requests.append(limits["max_requests_per_batch"])
    assert requests == [512, 256, 128, 64]


def test_dtype_and_device_map(folder, model):
    import torch

    assert model._model.dtype == torch.float32
    half = load(folder, dtype="bfloat16", device_map="cpu")
    assert half._model.dtype == torch.bfloat16 and half._model.device.type == "cpu"
    assert len(complete(half, PROMPTS)) == 3
    with pytest.raises(UserInputError, match="cannot be loaded .*no-such-device"):
        load(folder, device_map="no-such-device")


def test_names(folder, model, tmp_path, monkeypatch):
    assert model.name == Path(folder).name
    shutil.copytree(folder, tmp_path / "elsewhere" / model.name)
    monkeypatch.chdir(tmp_path / "elsewhere" / model.name)
    for spec in (".", "../" + model.name, f"{tmp_path}/elsewhere/{model.name}/"):
        assert load(spec).name == model.name
    assert find_language_model(folder) == find_language_model(f"transformers:{folder}")
    assert find_language_model("org/name").import_string == LANGUAGE_MODELS["transformers"]


def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path, folder):
    from transformers import ViTConfig

    (tmp_path / "empty").mkdir()
    for spec in (str(tmp_path / "empty"), "transformers:no-such-org/no-such-model"):
        with pytest.raises(UserInputError, match=r"the language model '.*' cannot be loaded \(.*--language-model toy"):
            load(spec)
    ViTConfig().save_pretrained(tmp_path / "vision")
    with pytest.raises(UserInputError, match="is of type 'vit', which does not write text; type --language-model"):
        load(tmp_path / "vision")


def test_damaged_weights_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = save_tiny_llama(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        UserInputError, match=r"weights are incomplete: 1 are missing, e.g. model.layers.1.mlp.up_proj"
    ):
        load(folder)
    content = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserInputError, match="cannot be loaded"):
        load(folder)


def test_a_model_without_pad_and_end_and_with_shared_weights(tmp_path):
    folder = save_tiny_llama(
        tmp_path, tokenizer=tiny_tokenizer(), eos_token_id=None, bos_token_id=None, tie_word_embeddings=True
    )
    model = load(folder)
    assert model._tokenizer.pad_token is None and model._tokenizer.eos_token is None
    together = complete(model, **GREEDY)
    assert together == [complete(model, [prompt], **GREEDY)[0] for prompt in MANY]


def test_a_prompt_that_is_too_long_for_the_model(tmp_path):
    model = load(save_tiny_llama(tmp_path, max_position_embeddings=64))
    with pytest.raises(UserInputError, match="a prompt has 60 tokens; with --max-new-tokens 12 .* more than the 64"):
        complete(model, ["x" * 60])


def test_a_model_that_writes_no_captions_is_given_up(tmp_path, folder, monkeypatch):
    monkeypatch.setattr("synclr_hf.captions.maker.HOPELESS_DRAWS", 3)
    config = CaptionsConfig(
        tmp_path / "captions", language_model=folder, num_captions=2, max_new_tokens=2, concepts=concept_file(tmp_path)
    )
    with pytest.raises(UserInputError) as caught:
        write_captions(config)
    assert "wrote no caption that the filters keep in 4 draws; last reasons: " in str(caught.value)
    assert not list((tmp_path / "captions/data").iterdir())


def concept_file(folder):
    path = folder / "birds.txt"
    path.write_text("owl\nwren\n")
    return str(path)


def test_progress_is_reported_batch_by_batch(folder):
    told = []
    complete(load(folder, batch_size=4), report=told.append)
    assert sum(told) == len(MANY) and max(told) <= 4
