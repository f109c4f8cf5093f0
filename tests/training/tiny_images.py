"""An images set on disk, small enough to train on in a second."""

import io

from datasets import Dataset
from PIL import Image, ImageDraw

from synclr_hf.data.schemas import image_features


def picture(caption, k):
    image = Image.new("RGB", (40, 40), (40 * caption % 256, 90, 255 - 30 * caption % 256))
    ImageDraw.Draw(image).ellipse((5 + k, 5, 20 + 2 * k, 25), fill=(200, 30 * caption % 256, 40))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95)
    return {"bytes": stream.getvalue(), "path": None}


def write_images(folder, captions=12):
    """Write `captions` rows of four pictures to a Parquet file that `read_images` reads; return the folder."""
    texts = {name: ["toy"] * captions for name in ("caption", "concept", "source", "provenance")}
    rows = {
        "caption_id": list(range(captions)),
        **texts,
        "images": [[picture(i, k) for k in range(4)] for i in range(captions)],
        "seeds": [[0, 1, 2, 3]] * captions,
        "guidance_scale": [2.5] * captions,
    }
    features = image_features()
    (folder / "data").mkdir(parents=True)
    Dataset.from_dict({name: rows[name] for name in features}, features=features).to_parquet(
        folder / "data" / "train-00000.parquet"
    )
    return folder
