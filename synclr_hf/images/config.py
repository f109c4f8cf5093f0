"""The settings of the images stage."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from synclr_hf.data.checks import COUNT, check_integer, check_number
from synclr_hf.errors import UserInputError, unknown_name
from synclr_hf.images.families import family_defaults
from synclr_hf.images.generators import ImageGeneratorOptions

MAX_IMAGES_PER_CAPTION = 1000
"""An image's id is caption_id x 1,000 + its number."""

IMAGE_FORMATS = ("jpeg", "webp")


@dataclass
class ImagesConfig:
    """Settings of the images stage (defaults: paper, section 3.2).

    Attributes:
        output_dir: folder to write.
        captions: folder that the captions stage wrote, or `org/name` on the Hub.
        image_generator: `toy`, `diffusers:ORG/NAME`, `ORG/NAME`, or a folder with a saved pipeline.
        images_per_caption: pictures of one caption, at least 2: they are each other's positives.
        guidance_scale: classifier-free guidance w. Default: what suits the model, 2.5 for Stable Diffusion 1.5.
        num_inference_steps: denoising steps. Default: what suits the model, 50 for Stable Diffusion 1.5.
        size: side of the stored pictures, in pixels.
        size_drawn: side of the pictures as they are drawn. Default: the model's own.
        scheduler: scheduler of diffusers by name, e.g. `DDIMScheduler`. Default: what suits the model.
        adapter: LoRA weights for the model by Hub id, folder or file.
        dtype: precision of the model: auto (bfloat16 on a GPU, float32 elsewhere), bfloat16, float16, float32.
        safety_checker: ask the safety checker of a pipeline that has one; what it blocks is drawn again.
        score_model: a CLIP-like model by Hub id or folder; writes how well each picture shows its caption.
        rows_per_shard: captions of one shard, the unit of work and of resuming.
        seed: the run's seed; every picture's seed follows from it.
        batch_size: pictures drawn at once. Default: as many as suit the device.
        image_format: jpeg or webp.
        image_quality: of the stored pictures, 1 to 100.
        extend: add to the pictures in output_dir: those of captions that were added, or more of each caption.
    """

    output_dir: str
    captions: str
    image_generator: str = "toy"
    images_per_caption: int = 4
    guidance_scale: float | None = None
    num_inference_steps: int | None = None
    size: int = 256
    size_drawn: int | None = None
    scheduler: str | None = None
    adapter: str | None = None
    dtype: str = "auto"
    safety_checker: bool = True
    score_model: str | None = None
    rows_per_shard: int = field(default=256, metadata=COUNT)
    seed: int = 0
    batch_size: int | None = None
    image_format: str = "jpeg"
    image_quality: int = 95
    extend: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that cannot be used (`UserInputError`)."""
        self.output_dir, self.captions = str(self.output_dir), str(self.captions)
        for name in ("adapter", "score_model"):
            setattr(self, name, None if (value := getattr(self, name)) is None else str(value))
        if self.images_per_caption in (0, 1):
            raise UserInputError(
                f"--images-per-caption {self.images_per_caption} cannot be used: the pictures of one caption are each "
                "other's positives; allowed: 2 or more; type --images-per-caption 4"
            )
        check_integer(
            "--images-per-caption", self.images_per_caption, minimum=2, maximum=MAX_IMAGES_PER_CAPTION, example=4
        )
        if self.guidance_scale is not None:
            check_number("--guidance-scale", self.guidance_scale, minimum=0, example=2.5)
        if self.num_inference_steps is not None:
            check_integer("--num-inference-steps", self.num_inference_steps, minimum=1, example=50)
        check_integer("--size", self.size, minimum=16, maximum=4096, example=256)
        check_integer("--rows-per-shard", self.rows_per_shard, minimum=1, example=256)
        check_integer("--seed", self.seed, minimum=0, example=0)
        if self.image_format not in IMAGE_FORMATS:
            raise unknown_name("image format", self.image_format, IMAGE_FORMATS, "--image-format jpeg")
        check_integer("--image-quality", self.image_quality, minimum=1, maximum=100, example=95)
        self.options()

    def options(self) -> ImageGeneratorOptions:
        """Return how the image generator is built."""
        return ImageGeneratorOptions(
            self.batch_size, self.dtype, self.scheduler, self.adapter, self.size_drawn, self.safety_checker
        )

    def resolved(self) -> ImagesConfig:
        """Return the same settings with those that suit the model where nothing was said."""
        suited = family_defaults(self.image_generator, self.adapter)
        guidance, steps = self.guidance_scale, self.num_inference_steps
        return replace(
            self,
            guidance_scale=suited.guidance_scale if guidance is None else guidance,
            num_inference_steps=suited.num_inference_steps if steps is None else steps,
        )
