"""All settings of training, checked field by field."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from napari_kdsam.core.errors import KDSAMError


class ConfigError(KDSAMError):
    """A training configuration that cannot be used."""


def _expanded(path: Path) -> Path:
    return Path(os.path.expandvars(path)).expanduser()


FilePath = Annotated[Path, AfterValidator(_expanded)]


class _Section(BaseModel):
    model_config = ConfigDict(extra='forbid')


class SourceConfig(_Section):
    """One folder of images with masks.

    Attributes
    ----------
    layout : str
        ``shards``, or the publisher's layout: ``kvasir_seg``, ``isic``, ``hc18``,
        ``busi``, ``busbra`` or ``plain`` (``images/`` and ``masks/``).
    folder : pathlib.Path
        Environment variables and ``~`` are expanded.
    data_sets : list of str
        Of a shards folder: which ones; all if empty.
    split_file : pathlib.Path or None
        CSV with data_set, stem and split; needed for every layout but ``shards``.
    """

    layout: Literal[
        'shards', 'kvasir_seg', 'isic', 'hc18', 'busi', 'busbra', 'plain'
    ] = 'shards'
    folder: FilePath
    data_sets: list[str] = []
    split_file: FilePath | None = None


class DataConfig(_Section):
    """Which images are trained on, and which are only looked at.

    Attributes
    ----------
    sources : list of SourceConfig
        Read one after the other.
    train_splits, val_splits : list of str
        As the split files name them.
    train_limit, val_limit : int or None
        At most so many images of each data set, evenly spaced in name order.
    balance : float
        0 draws each image equally often, 1 each data set.
    most_repeats : float
        However small its data set, no image is drawn more often than this a pass.
    shares : dict of str to float
        How often a data set is drawn, as a multiple of what `balance` gives it.
    drawn : int
        So many drawn pictures (phantoms and flat shapes) are added to the training
        images as a data set of their own.
    drop_leaks : bool
        Leave out train images that are near-duplicates of val images.
    workers : int
        Threads that read the images when a run starts.
    """

    sources: list[SourceConfig] = Field(min_length=1)
    train_splits: list[str] = ['train']
    val_splits: list[str] = ['val']
    train_limit: PositiveInt | None = None
    val_limit: PositiveInt | None = None
    balance: float = Field(0.5, ge=0, le=1)
    most_repeats: float = Field(4.0, ge=1)
    shares: dict[str, PositiveFloat] = {}
    drawn: NonNegativeInt = 0
    drop_leaks: bool = True
    workers: PositiveInt = 2


class TeacherConfig(_Section):
    """Which encoder is distilled, and where its embeddings are kept.

    Attributes
    ----------
    weights : pathlib.Path
        Meta's ``sam_vit_{b,l,h}*.pth``, a SAM-compatible ONNX encoder, or a name
        from ``napari-kdsam models``.
    cache : pathlib.Path or None
        Folder that keeps the embeddings on disk, for a teacher that takes hours; None
        computes them anew when a run starts and keeps them in memory alone.
    views : list of str
        What is embedded of every image: itself, and itself mirrored left and right.
    perceptual_weights : pathlib.Path or None
        VGG16 features; needed when ``encoder.perceptual_weight`` is above 0.
    batch_size : int
        Images a teacher call.
    """

    weights: FilePath
    cache: FilePath | None = None
    views: list[Literal['identity', 'flip_columns']] = ['identity']
    perceptual_weights: FilePath | None = None
    batch_size: PositiveInt = 4


class StageConfig(_Section):
    """What all stages have in common.

    Attributes
    ----------
    steps : int
        Optimiser steps.
    batch_size : int
        Images in a batch of one process.
    accumulate : int
        Batches an optimiser step.
    warmup_steps : int
        Steps of linear warm-up before the cosine schedule.
    weight_decay : float
        AdamW's.
    clip : float
        Largest gradient norm.
    ema_decay : float
        Exponential moving average of the weights; 0 for none.
    """

    steps: PositiveInt
    batch_size: PositiveInt = 4
    accumulate: PositiveInt = 1
    warmup_steps: NonNegativeInt = 50
    weight_decay: NonNegativeFloat = 0.01
    clip: PositiveFloat = 1.0
    ema_decay: float = Field(0.0, ge=0, lt=1)


class AugmentedStageConfig(StageConfig):
    """What the stages that see images have in common.

    Attributes
    ----------
    appearance : bool
        Whether changes of the appearance are drawn.
    strength : float
        Of the augmentation, 1 being as described in docs/training.md.
    """

    appearance: bool = True
    strength: PositiveFloat = 1.0


class EncoderStageConfig(AugmentedStageConfig):
    """Stage 1: the student's embedding learns to equal the teacher's.

    Attributes
    ----------
    neck_rate, trunk_rate : float
        Learning rates.
    frozen : list of str
        Parts of the trunk that stay as they are.
    perceptual_weight : float
        lambda of ``L = L_MSE + lambda * L_P``; L_P is about 1 for a student that
        predicts the mean, where L_MSE is about 0.01.
    cosine_weight : float
        Weight of a cosine distance; 0 for none.
    prompt_weight : float
        Weight of prompt-in-the-loop distillation; 0 for none.
    padding_weight : float
        Weight of embedding cells on padding; those on the image weigh 1.
    """

    neck_rate: PositiveFloat = 1e-3
    trunk_rate: PositiveFloat = 3e-4
    frozen: list[Literal['stem', 'layer1', 'layer2', 'layer3', 'layer4']] = []
    perceptual_weight: NonNegativeFloat = 0.01
    cosine_weight: NonNegativeFloat = 0.0
    prompt_weight: NonNegativeFloat = 0.0
    padding_weight: float = Field(0.1, ge=0, le=1)


class DecoderStageConfig(AugmentedStageConfig):
    """Stage 2: the mask decoder learns from the true masks.

    Attributes
    ----------
    decoder_rate : float
        Learning rate of the mask decoder.
    neck_rate, trunk_rate : float
        0 keeps that part of the encoder frozen, as the paper does.
    frozen : list of str
        Parts of the trunk frozen even if `trunk_rate` is above 0.
    geometry : bool
        Whether flips, rotations and crops are drawn.
    cross_entropy_weight : float
        Added to the Dice loss; 0 is the paper's loss.
    outline_weight : float
        Weight of the cross entropy in the band around the outline; 0 for none.
    score_weight : float
        Weight of the predicted-IoU regression.
    ranking_weight : float
        Weight, within that, of giving the best of three candidates first.
    anchor : pathlib.Path or None
        A model (file or name, with a decoder) whose answers must not be forgotten.
    anchor_weight : float
        Weight of the distance from its embedding and masks.
    anchor_share : float
        Of each batch, how many images are compared with it.
    box_jitter : float
        Largest displacement of a box's side as a share of the box's extent.
    """

    decoder_rate: PositiveFloat = 1e-4
    neck_rate: NonNegativeFloat = 0.0
    trunk_rate: NonNegativeFloat = 0.0
    frozen: list[Literal['stem', 'layer1', 'layer2', 'layer3', 'layer4']] = [
        'stem',
        'layer1',
    ]
    geometry: bool = True
    cross_entropy_weight: NonNegativeFloat = 0.0
    outline_weight: NonNegativeFloat = 0.0
    score_weight: NonNegativeFloat = 1.0
    ranking_weight: NonNegativeFloat = 0.0
    anchor: FilePath | None = None
    anchor_weight: NonNegativeFloat = 0.0
    anchor_share: float = Field(0.5, gt=0, le=1)
    box_jitter: float = Field(0.1, ge=0, lt=0.5)

    @property
    def encoder_learns(self) -> bool:
        """Whether any part of the encoder is trained."""
        return self.neck_rate > 0 or self.trunk_rate > 0


class ProposalsStageConfig(StageConfig):
    """Stage 3: the proposal head learns where targets are, on the frozen encoder.

    Attributes
    ----------
    rate : float
        Learning rate.
    mirrored : bool
        Whether the mirror image of each image is learnt from too: twice the time and
        memory for the embeddings.
    beside_share : float
        Of this share of the images, a part without target is learnt from too.
    box_weight, class_weight : float
        Weights of the box's and the name's loss beside the heatmap's.
    threshold : float
        Score from which a proposal counts, written into the head.
    """

    batch_size: PositiveInt = 16
    weight_decay: NonNegativeFloat = 0.02
    clip: PositiveFloat = 5.0
    ema_decay: float = Field(0.99, ge=0, lt=1)
    rate: PositiveFloat = 1e-3
    mirrored: bool = True
    beside_share: float = Field(0.25, ge=0, le=1)
    box_weight: NonNegativeFloat = 1.0
    class_weight: NonNegativeFloat = 0.5
    threshold: float = Field(0.3, gt=0, lt=1)


class LoopConfig(_Section):
    """How training runs, whatever it trains.

    Attributes
    ----------
    precision : str
        Lightning's name, such as ``32-true`` or ``bf16-mixed``; ``auto`` is the latter
        where the hardware has it and the former elsewhere.
    accelerator, devices, nodes, strategy
        As Lightning takes them; the command line overrides them.
    seed : int
        Order, augmentation and prompts depend on it and the step alone.
    deterministic : bool
        Ask torch for deterministic kernels.
    compile : bool
        Compile the encoder: pays on a GPU after some hundred steps.
    checkpoint_every, validate_every, log_every : int
        In optimiser steps.
    """

    precision: Literal['auto', '32-true', 'bf16-mixed', '16-mixed', 'bf16-true'] = (
        'auto'
    )
    accelerator: str = 'auto'
    devices: PositiveInt = 1
    nodes: PositiveInt = 1
    strategy: Literal['auto', 'ddp', 'fsdp'] = 'auto'
    seed: NonNegativeInt = 0
    deterministic: bool = False
    compile: bool = False
    checkpoint_every: PositiveInt = 100
    validate_every: PositiveInt = 500
    log_every: PositiveInt = 10


class TrainingConfig(_Section):
    """A whole training: data, teacher, stages.

    Attributes
    ----------
    name : str
        Of the run; its files are in ``out/name``.
    out : pathlib.Path
        Folder of all runs.
    input_size : int
        512 or 1024.
    initial : pathlib.Path or None
        Where the student starts: ResNet-50 ImageNet weights (torchvision names) or
        a KD SAM checkpoint; the bundled weights if None; ``fresh-laterals`` for
        those with untrained laterals, to try stage 1 without downloads.
    initial_decoder : pathlib.Path or None
        SAM's prompt encoder and mask decoder, needed with ImageNet weights.
    """

    name: str = Field(pattern=r'^[\w.-]+$')
    out: FilePath = Path('runs')
    input_size: Literal[512, 1024] = 512
    initial: FilePath | None = None
    initial_decoder: FilePath | None = None
    data: DataConfig
    teacher: TeacherConfig | None = None
    encoder: EncoderStageConfig | None = None
    decoder: DecoderStageConfig | None = None
    proposals: ProposalsStageConfig | None = None
    loop: LoopConfig = LoopConfig()

    @property
    def folder(self) -> Path:
        """Where this run's files are."""
        return self.out / self.name


class ShareConfig(_Section):
    """A group of data sets and how large a part of the images it gives.

    Attributes
    ----------
    data_sets : list of str
        As the index names them; images are drawn from them in turn.
    weight : float
        Relative to the other groups.
    """

    data_sets: list[str] = Field(min_length=1)
    weight: NonNegativeFloat


class FindingConfig(_Section):
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


class ThingsConfig(_Section):
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
