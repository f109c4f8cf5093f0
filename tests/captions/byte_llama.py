"""A language model that fits in a test: a tiny random Llama with a tokenizer of one token a byte."""


def tiny_tokenizer(**special_tokens):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<s>", "</s>", *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special_tokens)


def save_tiny_llama(path, *, tokenizer=None, config=None, network=None, **settings):
    """Save model (`config` and `network`: a relative of Llama) and tokenizer to `path` and return it as a string."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tokenizer or tiny_tokenizer(bos_token="<s>", eos_token="</s>")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": 0, "eos_token_id": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = (config or LlamaConfig)(vocab_size=len(tokenizer), **{**sizes, **ends, **settings})
        model = (network or LlamaForCausalLM)(built)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)
