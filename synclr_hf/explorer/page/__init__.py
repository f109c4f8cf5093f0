"""The page of the explorer, one file a tab; the only place that imports gradio (the extra `space`)."""
