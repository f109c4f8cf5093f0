"""The Space: shows the model and the index that explorer.json, or the variables MODEL and INDEX, name."""

from pathlib import Path

from synclr_hf.explorer.config import space_config
from synclr_hf.explorer.page.launch import launch
from synclr_hf.explorer.session import Explorer

if __name__ == "__main__":
    launch(Explorer(space_config(Path(__file__).parent)), host="0.0.0.0")
