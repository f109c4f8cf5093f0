"""A Hub to test against: what huggingface_hub, datasets, transformers and diffusers call, on 127.0.0.1, in memory.

`Hub` is the server together with what a test does with it; the fixture `hub` gives each test one of its own.
Large files go up by Xet or by LFS and come down as plain bytes. Listings come in one page and without the last commit
of each file; there are no pull requests.
"""

from .hub import Hub

__all__ = ["Hub"]
