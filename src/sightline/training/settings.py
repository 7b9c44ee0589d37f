"""How a run is trained, where Detectron2's configuration has no key for it. Kept in run.json; all off is Detectron2's way."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that `sightline train` decides beyond the configuration.

    Saving and ending
    keep:        checkpoints of the way that are kept, the newest; 0 keeps all
    metric:      what the best checkpoint is chosen by: "bbox/AP", "bbox/AP50", "segm/AP", ..., or "val_loss"
    patience:    evaluations in a row without a better one before the run ends; 0 never ends it
    time_limit_s: seconds after which the run saves and ends; None has no limit
    on_bad_picture: "stop" names a picture that cannot be read and ends; "skip" takes the next one in its place

    Arithmetic
    precision:   of mixed precision (SOLVER.AMP.ENABLED): "bf16", "fp16", or "auto", bf16 where the device has it
    accumulate:  parts in which a batch passes through the model
    ema:         decay of the running mean of the weights that is evaluated and kept; 0 keeps none
    recompute:   keep no activations of the backbone's blocks, compute them again for the gradients
    compile:     compile the backbone with torch.compile
    channels_last: memory layout of pictures and convolutions

    Pictures
    colour:      strength of brightness, contrast, saturation and hue jitter, 0 to 1
    rotate:      turn pictures by a random multiple of 90 degrees
    scale_jitter: factors between which the size of a picture is drawn; None: sizes are INPUT.MIN_SIZE_TRAIN's alone
    mosaic:      probability that a picture becomes a mosaic of four
    class_weights: factors on the classification loss, one a class; empty: all 1

    Watching
    tensorboard: write TensorBoard events into the run folder
    mlflow:      tracking address or folder; empty: none
    """

    keep: int = 3
    metric: str = "bbox/AP"
    patience: int = 0
    time_limit_s: float | None = None
    on_bad_picture: str = "stop"
    precision: str = "auto"
    accumulate: int = 1
    ema: float = 0.0
    recompute: bool = False
    compile: bool = False
    channels_last: bool = False
    colour: float = 0.0
    rotate: bool = False
    scale_jitter: tuple[float, float] | None = None
    mosaic: float = 0.0
    class_weights: tuple[float, ...] = ()
    tensorboard: bool = False
    mlflow: str = ""

    def as_dict(self) -> dict[str, object]:
        """For run.json."""
        return asdict(self)


PLAIN = Settings()
"""All off."""
