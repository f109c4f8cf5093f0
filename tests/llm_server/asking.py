"""What the tests ask of a server by its back ends, and how: quickly again after a fault, and without keys."""

from synclr_hf.captions import server_requests
from synclr_hf.captions.language_models import LanguageModelOptions, find_language_model

OPTIONS = {"temperature": 0.5, "top_p": 0.9, "max_new_tokens": 20, "stop": ("\n",)}
PROMPTS = [f"cat => A cat sleeps.\nowl {number} =>" for number in range(40)]
SEEDS = [number + 2**40 for number in range(40)]
TEXTS = [f"written with seed {number}" for number in range(40)]


def be_quick_and_without_keys(monkeypatch):
    monkeypatch.setattr(server_requests, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(server_requests, "LONGEST_WAIT", 0.04)
    for name in ("OPENAI_API_KEY", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def load(server, back_end="openai", batch_size=8):
    url = server if isinstance(server, str) else server.url
    return find_language_model(
        f"{back_end}:org/name", LanguageModelOptions(batch_size=batch_size, base_url=url)
    ).load()


def complete(model, prompts=PROMPTS, **options):
    return model.complete(prompts, seeds=SEEDS[: len(prompts)], **{**OPTIONS, **options})
