"""What a prediction is made of: `Boxes` and `Instances`, with the methods that scripts call on Detectron2's.

N: objects in one picture. Boxes are (x1, y1, x2, y2) in its pixels.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from sightline.errors import ShapeError

Index = int | slice | Tensor | Sequence[int] | Sequence[bool]


class Boxes:
    """N boxes. tensor: (N, 4) float32."""

    def __init__(self, tensor: Tensor) -> None:
        values = torch.as_tensor(tensor, dtype=torch.float32)
        self.tensor = values.reshape(-1, 4) if values.numel() == 0 else values
        if self.tensor.dim() != 2 or self.tensor.shape[1] != 4:
            raise ShapeError("Boxes", f"got shape {list(values.shape)}", "Pass (N, 4).")

    def __len__(self) -> int:
        return len(self.tensor)

    def __getitem__(self, index: Index) -> "Boxes":
        """Always boxes: one for a whole number."""
        return Boxes(self.tensor[index].reshape(-1, 4))

    def __iter__(self) -> Iterator[Tensor]:
        """One (4,) tensor a box."""
        yield from self.tensor

    def __repr__(self) -> str:
        return f"Boxes({self.tensor})"

    def area(self) -> Tensor:
        """(N,) px²."""
        return (self.tensor[:, 2] - self.tensor[:, 0]) * (self.tensor[:, 3] - self.tensor[:, 1])

    def get_centers(self) -> Tensor:
        """(N, 2): x, y."""
        return (self.tensor[:, :2] + self.tensor[:, 2:]) / 2

    def nonempty(self, threshold: float = 0.0) -> Tensor:
        """(N,) bool: those wider and higher than `threshold` pixels."""
        sides = self.tensor[:, 2:] - self.tensor[:, :2]
        return (sides > threshold).all(dim=1)

    def clip(self, box_size: tuple[int, int]) -> None:
        """Move what lies outside a picture of (height, width) onto its edge, in place."""
        height, width = box_size
        limits = self.tensor.new_tensor([width, height, width, height])
        self.tensor = torch.minimum(self.tensor.clamp(min=0), limits)

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Multiply x and y, in place."""
        self.tensor = self.tensor * self.tensor.new_tensor([scale_x, scale_y, scale_x, scale_y])

    def clone(self) -> "Boxes":
        return Boxes(self.tensor.clone())

    def to(self, device: torch.device | str) -> "Boxes":
        return Boxes(self.tensor.to(device=device))

    @property
    def device(self) -> torch.device:
        return self.tensor.device

    @staticmethod
    def cat(several: Sequence["Boxes"]) -> "Boxes":
        return Boxes(torch.cat([boxes.tensor for boxes in several])) if several else Boxes(torch.empty(0, 4))


class Instances:
    """The objects of one picture: fields of equal length, read and written as attributes.

    Predictions have pred_boxes (`Boxes`), scores (N,), pred_classes (N,), and of a model with masks pred_masks (N, H, W) bool.
    """

    _image_size: tuple[int, int]
    _fields: dict[str, Any]

    def __init__(self, image_size: tuple[int, int], **fields: Any) -> None:
        object.__setattr__(self, "_image_size", (int(image_size[0]), int(image_size[1])))
        object.__setattr__(self, "_fields", {})
        for name, value in fields.items():
            self.set(name, value)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self._image_size

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._fields:
            raise AttributeError(f"Instances has no field {name!r}; it has: {', '.join(self.__dict__.get('_fields', ()))}")
        return self._fields[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self.set(name, value)

    def set(self, name: str, value: Any) -> None:
        """Add or replace a field.

        Raises:
            ShapeError: its length is not that of the others.
        """
        if any(len(other) != len(value) for key, other in self._fields.items() if key != name):
            raise ShapeError(f"Instances.{name}", f"has length {len(value)}", f"Give one value for each of the {len(self)}.")
        self._fields[name] = value

    def has(self, name: str) -> bool:
        return name in self._fields

    def get(self, name: str) -> Any:
        """The field `name`; KeyError if there is none."""
        return self._fields[name]

    def remove(self, name: str) -> None:
        del self._fields[name]

    def get_fields(self) -> dict[str, Any]:
        """{name: field}, the object's own."""
        return self._fields

    def __len__(self) -> int:
        return next((len(value) for value in self._fields.values()), 0)

    def __getitem__(self, index: Index) -> "Instances":
        """The objects that `index` names, in its order; one whole number keeps them in fields of length one."""
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"Instances has {len(self)} objects, not {index}")
            index = slice(index % len(self), index % len(self) + 1)
        return Instances(self._image_size, **{name: value[index] for name, value in self._fields.items()})

    def __iter__(self) -> Iterator["Instances"]:
        return (self[row] for row in range(len(self)))

    def to(self, *args: Any, **kwargs: Any) -> "Instances":
        """The same on another device."""
        moved = {name: value.to(*args, **kwargs) if hasattr(value, "to") else value for name, value in self._fields.items()}
        return Instances(self._image_size, **moved)

    def __str__(self) -> str:
        height, width = self._image_size
        fields = ", ".join(f"{name}: {value}" for name, value in self._fields.items())
        return f"Instances(num_instances={len(self)}, image_height={height}, image_width={width}, fields=[{fields}])"

    __repr__ = __str__
