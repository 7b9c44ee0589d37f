"""What Detectron2's MODEL_ZOO.md publishes about the models that were trained with the zoo's configurations.

Trained on COCO train2017, scored on val2017, on 8 V100 with 16 pictures a step. The weights are licensed CC BY-SA 3.0.
"""

from dataclasses import dataclass

from sightline import downloads
from sightline.errors import ConfigError, nearest

LICENSE = "CC BY-SA 3.0"
"""Of all the weights, by the zoo's own page: name the source, share what is made of them alike."""

MEASURED = (
    "train2017 -> val2017, as Detectron2's MODEL_ZOO.md publishes them: AP and AR in percent; "
    "s/picture on one V100, one picture at a time, the model alone; GB on each of 8 V100 in training, 2 pictures each"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooModel:
    """The published record of one of the zoo's configurations.

    name:              the configuration, as `--config` takes it
    schedule:          "1x": 90,000 steps of 16 pictures, some 12 rounds through COCO; "3x": 270,000
    checkpoint:        where the trained weights are, as `--weights` takes it; None if there are none
    box_ap, mask_ap:   COCO's AP, percent; None where not published or no such output
    proposal_ar:       recall of 1,000 proposals, percent, of models that only propose
    train_s_per_iter:  seconds per training step of 16 pictures on 8 V100
    infer_s_per_im:    seconds per picture on one V100, one picture at a time, the model alone
    train_mem_gb:      memory on each GPU in training, gigabytes
    note:              what to know before choosing it
    """

    name: str
    schedule: str
    checkpoint: str | None = None
    box_ap: float | None = None
    mask_ap: float | None = None
    proposal_ar: float | None = None
    train_s_per_iter: float | None = None
    infer_s_per_im: float | None = None
    train_mem_gb: float | None = None
    note: str = ""

    @property
    def url(self) -> str | None:
        """The checkpoint's address for a browser."""
        return self.checkpoint and self.checkpoint.replace("detectron2://", downloads.ZOO)

    @property
    def md5_prefix(self) -> str | None:
        """The first six digits of the checkpoint's md5, which its file name carries."""
        return self.checkpoint and self.checkpoint.removesuffix(".pkl").rpartition("_")[2]


def trained(
    stem: str,
    file: str,
    speed: tuple[float, float, float],
    *,
    box_ap: float | None = None,
    mask_ap: float | None = None,
    proposal_ar: float | None = None,
    note: str = "",
) -> ZooModel:
    """A row of MODEL_ZOO.md: the name without `.yaml`, the file below that name, (train_s_per_iter, infer_s_per_im, GB)."""
    train_s_per_iter, infer_s_per_im, train_mem_gb = speed
    return ZooModel(
        name=f"{stem}.yaml",
        schedule=stem[-2:],
        checkpoint=f"detectron2://{stem}/{file}",
        box_ap=box_ap,
        mask_ap=mask_ap,
        proposal_ar=proposal_ar,
        train_s_per_iter=train_s_per_iter,
        infer_s_per_im=infer_s_per_im,
        train_mem_gb=train_mem_gb,
        note=note,
    )


FASTER = "COCO-Detection/faster_rcnn_"
RETINANET = "COCO-Detection/retinanet_"
MASK = "COCO-InstanceSegmentation/mask_rcnn_"

ROWS = (
    trained(f"{FASTER}R_50_C4_1x", "137257644/model_final_721ade.pkl", (0.551, 0.102, 4.8), box_ap=35.7),
    trained(f"{FASTER}R_50_C4_3x", "137849393/model_final_f97cb7.pkl", (0.543, 0.104, 4.8), box_ap=38.4),
    trained(f"{FASTER}R_101_C4_3x", "138204752/model_final_298dad.pkl", (0.619, 0.139, 5.9), box_ap=41.1),
    trained(f"{FASTER}R_50_DC5_1x", "137847829/model_final_51d356.pkl", (0.38, 0.068, 5.0), box_ap=37.3),
    trained(f"{FASTER}R_50_DC5_3x", "137849425/model_final_68d202.pkl", (0.378, 0.07, 5.0), box_ap=39.0),
    trained(f"{FASTER}R_101_DC5_3x", "138204841/model_final_3e0943.pkl", (0.452, 0.086, 6.1), box_ap=40.6),
    trained(f"{FASTER}R_50_FPN_1x", "137257794/model_final_b275ba.pkl", (0.21, 0.038, 3.0), box_ap=37.9),
    trained(f"{FASTER}R_50_FPN_3x", "137849458/model_final_280758.pkl", (0.209, 0.038, 3.0), box_ap=40.2),
    trained(f"{FASTER}R_101_FPN_3x", "137851257/model_final_f6e8b1.pkl", (0.286, 0.051, 4.1), box_ap=42.0),
    trained(f"{FASTER}X_101_32x8d_FPN_3x", "139173657/model_final_68b088.pkl", (0.638, 0.098, 6.7), box_ap=43.0),
    trained(f"{RETINANET}R_50_FPN_1x", "190397773/model_final_bfca0b.pkl", (0.205, 0.041, 4.1), box_ap=37.4),
    trained(f"{RETINANET}R_50_FPN_3x", "190397829/model_final_5bd44e.pkl", (0.205, 0.041, 4.1), box_ap=38.7),
    trained(f"{RETINANET}R_101_FPN_3x", "190397697/model_final_971ab9.pkl", (0.291, 0.054, 5.2), box_ap=40.4),
    trained("COCO-Detection/rpn_R_50_C4_1x", "137258005/model_final_450694.pkl", (0.13, 0.034, 1.5), proposal_ar=51.6),
    trained("COCO-Detection/rpn_R_50_FPN_1x", "137258492/model_final_02ce48.pkl", (0.186, 0.032, 2.7), proposal_ar=58.0),
    trained(
        "COCO-Detection/fast_rcnn_R_50_FPN_1x",
        "137635226/model_final_e5f7ce.pkl",
        (0.14, 0.029, 2.6),
        box_ap=37.8,
        note="needs precomputed proposals, which is not supported",
    ),
    trained(f"{MASK}R_50_C4_1x", "137259246/model_final_9243eb.pkl", (0.584, 0.11, 5.2), box_ap=36.8, mask_ap=32.2),
    trained(f"{MASK}R_50_C4_3x", "137849525/model_final_4ce675.pkl", (0.575, 0.111, 5.2), box_ap=39.8, mask_ap=34.4),
    trained(f"{MASK}R_101_C4_3x", "138363239/model_final_a2914c.pkl", (0.652, 0.145, 6.3), box_ap=42.6, mask_ap=36.7),
    trained(f"{MASK}R_50_DC5_1x", "137260150/model_final_4f86c3.pkl", (0.471, 0.076, 6.5), box_ap=38.3, mask_ap=34.2),
    trained(f"{MASK}R_50_DC5_3x", "137849551/model_final_84107b.pkl", (0.47, 0.076, 6.5), box_ap=40.0, mask_ap=35.9),
    trained(f"{MASK}R_101_DC5_3x", "138363294/model_final_0464b7.pkl", (0.545, 0.092, 7.6), box_ap=41.9, mask_ap=37.3),
    trained(f"{MASK}R_50_FPN_1x", "137260431/model_final_a54504.pkl", (0.261, 0.043, 3.4), box_ap=38.6, mask_ap=35.2),
    ZooModel(name=f"{MASK}R_50_FPN_1x_giou.yaml", schedule="1x", note="no scores and no weights are published"),
    trained(f"{MASK}R_50_FPN_3x", "137849600/model_final_f10217.pkl", (0.261, 0.043, 3.4), box_ap=41.0, mask_ap=37.2),
    trained(f"{MASK}R_101_FPN_3x", "138205316/model_final_a3ec72.pkl", (0.34, 0.056, 4.6), box_ap=42.9, mask_ap=38.6),
    trained(f"{MASK}X_101_32x8d_FPN_3x", "139653917/model_final_2d9806.pkl", (0.69, 0.103, 7.2), box_ap=44.3, mask_ap=39.5),
    trained(
        "Misc/cascade_mask_rcnn_R_50_FPN_3x",
        "144998488/model_final_480dd8.pkl",
        (0.328, 0.053, 4.0),
        box_ap=44.3,
        mask_ap=38.5,
    ),
)

MODELS = {row.name: row for row in ROWS}
"""{name: record}, one for every configuration of zoo.py."""


def zoo_model(name: str) -> ZooModel:
    """The record of a zoo configuration, named with or without `.yaml`.

    Raises:
        ConfigError: the zoo has no such configuration.
    """
    full = name if name.endswith(".yaml") else f"{name}.yaml"
    if full not in MODELS:
        raise ConfigError(name, "is no name of the model zoo", nearest(name, list(MODELS)))
    return MODELS[full]


def checkpoint_address(name: str) -> str:
    """Where the weights trained with a zoo configuration are, as `--weights` takes it: `detectron2://...`.

    Raises:
        ConfigError: the zoo has no such configuration, or none of its weights are published.
    """
    model = zoo_model(name)
    if model.checkpoint is None:
        raise ConfigError(name, "no trained weights are published", "Leave --weights out: training starts from ImageNet's.")
    return model.checkpoint
