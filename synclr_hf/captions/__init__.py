"""Captions: templates, language models, filters, and the stage that writes caption rows."""
