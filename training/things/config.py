"""Settings of the set of things: from what, how many and how certain."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from napari_kdsam.training.config import FilePath


class ShareConfig(BaseModel):
    """A group of data sets and how large a part of the images it gives.

    Attributes
    ----------
    data_sets : list of str
        As the index names them; images are drawn from them in turn.
    weight : float
        Relative to the other groups.
    """

    model_config = ConfigDict(extra='forbid')

    data_sets: list[str] = Field(min_length=1)
    weight: NonNegativeFloat


class FindingConfig(BaseModel):
    """Which of the teacher's masks count as a thing.

    Attributes
    ----------
    points_per_side : int
        Of the grid of clicks, along the longest side of the image.
    min_score : float
        Predicted IoU of a click's mask and of its box's mask.
    min_stability : float
        See `napari_kdsam.inference.automatic.AutomaticSettings`.
    min_agreement : float
        IoU of a click's mask and the mask of its box.
    min_area, max_area : float
        Share of the image.
    max_repeat : float
        Of two masks with a higher IoU, the one with the lower score is dropped.
    max_hidden : float
        Share of a thing that smaller ones may cover.
    max_labelled_iou, max_labelled_share : float
        IoU with a labelled object, and share of the thing inside labelled objects,
        from which it is left to the true labels.
    candidates : int
        Clicking ends when so many things were found.
    most : int
        Things kept of an image.
    """

    model_config = ConfigDict(extra='forbid')

    points_per_side: PositiveInt = 8
    min_score: float = Field(default=0.88, ge=0, le=1)
    min_stability: float = Field(default=0.9, ge=0, le=1)
    min_agreement: float = Field(default=0.85, ge=0, le=1)
    min_area: float = Field(default=0.002, gt=0, lt=1)
    max_area: float = Field(default=0.4, gt=0, le=1)
    max_repeat: float = Field(default=0.7, ge=0, le=1)
    max_hidden: float = Field(default=0.15, ge=0, le=1)
    max_labelled_iou: float = Field(default=0.3, ge=0, le=1)
    max_labelled_share: float = Field(default=0.5, ge=0, le=1)
    candidates: PositiveInt = 12
    most: int = Field(default=6, ge=1, le=255)

    @model_validator(mode='after')
    def _areas_in_order(self) -> Self:
        if self.min_area >= self.max_area:
            raise ValueError('min_area must be smaller than max_area')
        return self


class ThingsConfig(BaseModel):
    """A whole set of things.

    Attributes
    ----------
    out : pathlib.Path
        Data folder to write; see `napari_kdsam.training.data.shards`.
    folder : pathlib.Path
        Data folder to take images from, each split from the same split.
    shares : list of ShareConfig
        Which of its data sets.
    pictures_weight : float
        Of the pictures that scikit-image and pydicom come with.
    train_images, val_images : int
        Images asked about; those where nothing is certain are left out.
    teacher : pathlib.Path
        Weights file or name of a model that takes clicks and boxes; see
        `napari_kdsam.training.things.teacher.open_teacher`.
    device : str
        As for `load_model`.
    seed : int
        Chooses images, crops and the order of clicks.
    shard_images : int
        Images asked about for a shard; a stopped run loses at most the last shard.
    finding : FindingConfig
        What counts as a thing.
    """

    model_config = ConfigDict(extra='forbid')

    out: FilePath
    folder: FilePath
    shares: list[ShareConfig] = []
    pictures_weight: NonNegativeFloat = 0.1
    train_images: NonNegativeInt = 220
    val_images: NonNegativeInt = 50
    teacher: FilePath = Path('sam2_tiny')
    device: str = 'auto'
    seed: NonNegativeInt = 0
    shard_images: PositiveInt = 10
    finding: FindingConfig = FindingConfig()

    def settings(self) -> dict[str, object]:
        """What decides the contents: everything but where files are."""
        kept: dict[str, object] = self.model_dump(
            mode='json', exclude={'out', 'folder', 'teacher', 'device'}
        )
        return kept
