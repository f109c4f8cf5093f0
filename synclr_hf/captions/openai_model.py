"""Language models behind an OpenAI-compatible server."""

from __future__ import annotations


class OpenAIChatModel:
    """Placeholder."""

    takes = ("batch_size", "base_url")


class OpenAICompletionsModel(OpenAIChatModel):
    """Placeholder."""
