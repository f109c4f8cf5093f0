"""The embedded default: a small world of drawable things, a stand-in language model and a renderer.

`bank.py` lists the concepts, `language_model.py` writes captions, `scene.py` reads captions and fills in what they
leave free, `renderer.py` draws. Nothing here needs torch.
"""
