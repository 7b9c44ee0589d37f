"""What every detector is: pictures to detections, or pictures and truth to losses.

B: pictures in the batch. Pictures come in as (3, H, W) in the configured colour order, 0 to 255.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sightline.errors import ConfigError
from sightline.model.boxes import clip, nonempty, places
from sightline.model.instances import Found, Targets
from sightline.records import ImageSize

Features = dict[str, Tensor]


class Detector(nn.Module):
    """Normalises and pads a batch, and moves what is found back to the pictures given. Subclasses are the architectures.

    The names of its parts are Detectron2's, because state dicts carry them. All stand on a backbone.

    size_divisor:    batches are padded to a multiple of it, the coarsest backbone stride; 0 and 1 pad to the largest only
    running_buffers: names of buffers that training changes and the state dict does not hold
    """

    pixel_mean: Tensor
    pixel_std: Tensor
    running_buffers: tuple[str, ...] = ()

    def __init__(
        self, *, backbone: nn.Module, pixel_mean: Sequence[float], pixel_std: Sequence[float], size_divisor: int
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.size_divisor = max(size_divisor, 1)
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std, dtype=torch.float32).view(-1, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    @property
    def has_idle_levels(self) -> bool:
        """Whether the backbone has weights for features that no head takes: no gradient will reach them."""
        heads = [part for name, part in self.named_modules() if not name.startswith("backbone")]
        named = [head.in_features for head in heads if isinstance(getattr(head, "in_features", None), tuple)]  # a Linear's: int
        taken = {name for names in named for name in names}
        return not taken.issuperset(getattr(self.backbone, "learned_features", ()))

    def batch(self, images: Sequence[Tensor]) -> tuple[Tensor, list[ImageSize]]:
        """((B, 3, H, W) normalised, zero-padded at the right and the bottom; the pictures' sizes inside it)."""
        sizes = [ImageSize(image.shape[-2], image.shape[-1]) for image in images]
        step = self.size_divisor
        height = -(-max(size.height for size in sizes) // step) * step
        width = -(-max(size.width for size in sizes) // step) * step
        batch = self.pixel_mean.new_zeros((len(images), 3, height, width))
        for row, image, size in zip(batch, images, sizes, strict=True):
            inside = row[:, : size.height, : size.width]
            torch.sub(image.to(self.device), self.pixel_mean, out=inside).div_(
                self.pixel_std
            )  # in place: no copies of the picture
        return batch, sizes

    def extract(self, batch: Tensor) -> Features:
        """Features by name of a normalised (B, 3, H, W) batch."""
        features: Features = self.backbone(batch)
        return features

    def losses(self, features: Features, sizes: Sequence[ImageSize], targets: Sequence[Targets]) -> dict[str, Tensor]:
        """{name: scalar} of a training batch. sizes: of the pictures inside the padded batch."""
        raise NotImplementedError

    def find(self, features: Features, sizes: Sequence[ImageSize]) -> list[Found]:
        """What is in each picture, in the batch's pixels, without masks."""
        raise NotImplementedError

    @property
    def gives_masks(self) -> bool:
        """Whether `with_masks` adds any."""
        return False

    def with_masks(self, features: Features, found: Sequence[Found]) -> list[Found]:
        """The same detections with the masks that an architecture gives; most give none."""
        return list(found)

    def weigh_classes(self, weights: Sequence[float]) -> None:
        """Multiply what each class adds to the classification loss. Prediction does not change.

        Raises:
            ConfigError: this architecture tells no classes apart.
        """
        raise ConfigError("class weights", f"mean nothing to a {type(self).__name__}", "Leave them out.")

    def forward(self, images: Sequence[Tensor], targets: Sequence[Targets]) -> dict[str, Tensor]:
        """{"loss_rpn_cls": scalar, ...} of one training batch; the names are Detectron2's."""
        batch, sizes = self.batch(images)
        return self.losses(self.extract(batch), sizes, [target.to(self.device) for target in targets])

    @torch.inference_mode()
    def detect(self, images: Sequence[Tensor], output_sizes: Sequence[ImageSize]) -> list[Found]:
        """What is in each picture, with boxes in pixels of `output_sizes` (the pictures before resizing)."""
        batch, sizes = self.batch(images)
        features = self.extract(batch)
        found = self.with_masks(features, self.find(features, sizes))
        return [rescaled(f, size, output) for f, size, output in zip(found, sizes, output_sizes, strict=True)]


def rescaled(found: Found, size: ImageSize, output: ImageSize) -> Found:
    """`found` in a picture of `size`, moved to one of `output` pixels; boxes that vanish there are dropped."""
    across, down = output.width / size.width, output.height / size.height
    boxes = found.boxes.clone()
    boxes[:, 0::2].mul_(across)
    boxes[:, 1::2].mul_(down)
    boxes = clip(boxes, *output)
    moved = Found(boxes, found.scores, found.labels, found.masks)
    return moved.take(places(nonempty(boxes)))
