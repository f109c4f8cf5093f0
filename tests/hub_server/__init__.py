"""A Hub to test against: what huggingface_hub, datasets, transformers and diffusers call, on 127.0.0.1, in memory.

`Hub` is the server together with what a test does with it; the fixture `hub` gives each test one of its own.
Bytes travel by LFS: the environments it hands out set HF_HUB_DISABLE_XET=1. There are no pages in listings and no
pull requests.
"""

from .hub import Hub

__all__ = ["Hub"]
