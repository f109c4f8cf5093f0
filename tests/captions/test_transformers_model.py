import pytest

from synclr_hf.captions.language_models import LANGUAGE_MODELS, find_language_model
from synclr_hf.captions.stage import CaptionsConfig, write_captions
from synclr_hf.errors import UserInputError

OPTIONS = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 12}
PROMPTS = ["cat => A cat sleeps.\ndog =>", "a much longer line of words, so that padding is needed =>", "owl =>"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny random Llama with a byte-level tokenizer, saved to disk."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<s>", "</s>", *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(fast), bos_token_id=0, eos_token_id=1, **size))
    path = tmp_path_factory.mktemp("llama")
    model.save_pretrained(path)
    fast.save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def model(folder):
    return find_language_model(f"transformers:{folder}").load()


def test_one_completion_a_prompt_without_the_prompt(model):
    texts = model.complete(PROMPTS, seeds=[1, 2, 3], stop=(), **OPTIONS)
    assert len(texts) == 3 and all(texts)
    assert not any(text.startswith(prompt[:3]) for text, prompt in zip(texts, PROMPTS, strict=True))


def test_the_seeds_decide_and_the_global_generator_is_left_alone(model):
    import torch

    state = torch.get_rng_state()
    first, second = (model.complete(PROMPTS, seeds=[1, 2, 3], stop=(), **OPTIONS) for _ in range(2))
    other = model.complete(PROMPTS, seeds=[1, 2, 4], stop=(), **OPTIONS)
    assert first == second != other
    assert torch.equal(torch.get_rng_state(), state)


def test_padding_on_the_left_changes_nothing_for_greedy_sampling(model):
    options = {**OPTIONS, "temperature": 0.0}
    together = model.complete(PROMPTS, seeds=[0, 0, 0], stop=(), **options)
    alone = [model.complete([prompt], seeds=[9], stop=(), **options)[0] for prompt in PROMPTS]
    assert together == alone


def test_it_stops_before_the_first_stop_string(model):
    full = model.complete(PROMPTS, seeds=[1, 2, 3], stop=(), **OPTIONS)
    stop = full[0][4]
    cut = model.complete(PROMPTS, seeds=[1, 2, 3], stop=(stop,), **OPTIONS)
    assert cut[0] == full[0][: full[0].index(stop)]
    assert not any(stop in text for text in cut)


def test_names(folder, model):
    assert model.name == folder
    assert find_language_model(folder) == find_language_model(f"transformers:{folder}")
    assert find_language_model("org/name").import_string == LANGUAGE_MODELS["transformers"]


def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    for spec in (str(tmp_path / "empty"), "transformers:no-such-org/no-such-model"):
        with pytest.raises(UserInputError, match=r"the language model '.*' cannot be loaded \(.*--language-model toy"):
            find_language_model(spec).load()


def test_a_model_that_writes_no_captions_is_given_up(tmp_path, folder, monkeypatch):
    monkeypatch.setattr("synclr_hf.captions.maker.MAX_ATTEMPTS", 3)
    config = CaptionsConfig(
        tmp_path / "captions", language_model=folder, num_captions=2, max_new_tokens=2, concepts=concept_file(tmp_path)
    )
    with pytest.raises(UserInputError) as caught:
        write_captions(config)
    assert "wrote no caption that the filters keep in 3 draws for 2 rows; last reasons: " in str(caught.value)
    assert not list((tmp_path / "captions/data").iterdir())


def concept_file(folder):
    path = folder / "birds.txt"
    path.write_text("owl\nwren\n")
    return str(path)
