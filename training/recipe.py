"""From a configuration to data, teacher and stages."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from napari_kdsam.core.errors import ImageError
from napari_kdsam.core.sizes import EMBEDDING_SIZE
from napari_kdsam.training.config import (
    ConfigError,
    DataConfig,
    DecoderStageConfig,
    TeacherConfig,
    TrainingConfig,
)
from napari_kdsam.training.data.samples import Sample
from napari_kdsam.training.data.shards import read_shards
from napari_kdsam.training.data.store import ImageStore
from napari_kdsam.training.device import training_device
from napari_kdsam.training.initial_weights import starting_model
from napari_kdsam.training.progress import embedding_bar

if TYPE_CHECKING:
    from napari_kdsam.training.finetuning.anchor import Anchor
    from napari_kdsam.training.teachers.memory import TeacherMemory
    from napari_kdsam.training.teachers.projection import Projection

PARTS = ('cache-teacher', 'encoder', 'decoder', 'proposals')
# Each gives thousands of vectors; three components need no more.
_PROJECTION_IMAGES = 256


def read_samples(
    config: DataConfig, splits: Sequence[str], *, required: bool = True
) -> list[Sample]:
    """List the samples of some splits of every source.

    Parameters
    ----------
    config : DataConfig
    splits : sequence of str
        As the split files name them.
    required : bool
        Whether a data set without an image in these splits is an error.
    """
    found: list[Sample] = []
    for source in config.sources:
        if source.layout == 'shards':
            found += read_shards(
                source.folder, source.data_sets, splits, required=required
            )
            continue
        from napari_kdsam.training.data.layouts import read_layout
        from napari_kdsam.training.data.splits import assign_split

        listing = read_layout(source.layout, source.folder)
        for reason in listing.skipped.values():
            tqdm.write(f'Skipped: {reason}')
        if source.split_file is None:
            raise ConfigError(
                f'The layout {source.layout} needs data.sources.split_file: publishers '
                'do not ship the splits.'
            )
        placed = assign_split(listing.samples, source.split_file)
        found += [sample for sample in placed if sample.split in splits]
    return found


def limited(samples: list[Sample], limit: int | None) -> list[Sample]:
    """At most `limit` samples of each data set, evenly spaced in their order."""
    if limit is None:
        return samples
    kept = []
    for name in dict.fromkeys(s.data_set for s in samples):
        own = [s for s in samples if s.data_set == name]
        count = min(limit, len(own))
        kept += [own[index * len(own) // count] for index in range(count)]
    return kept


def run_parts(config: TrainingConfig, parts: Sequence[str]) -> Iterator[Path]:
    """Run parts of a training in order, skipping what the configuration leaves out.

    Parameters
    ----------
    config : TrainingConfig
        The whole run.
    parts : sequence of str
        Of `PARTS`.

    Yields
    ------
    pathlib.Path
        What each part wrote.

    Raises
    ------
    ConfigError
        If none of the parts is described.
    KDSAMError
        If a part fails.
    """
    described = {
        'cache-teacher': config.encoder is not None
        and config.teacher is not None
        and config.teacher.cache is not None,
        'encoder': config.encoder is not None,
        'decoder': config.decoder is not None,
        'proposals': config.proposals is not None,
    }
    chosen = [part for part in parts if described[part]]
    if not chosen:
        raise ConfigError(f'The configuration has no section for {" or ".join(parts)}.')
    # Looking for leaks and reading take minutes, so all parts share them.
    train, val = split_samples(config)
    if 'cache-teacher' in chosen:
        yield fill_teacher_cache(config, train, val)
    stages = [part for part in chosen if part != 'cache-teacher']
    if not stages:
        return
    stores = read_stores(config, train, val)
    for part in stages:
        if part == 'proposals':
            from napari_kdsam.training.proposals.run import train_proposals

            yield from train_proposals(config, *stores)
        else:
            train_stage = train_encoder if part == 'encoder' else train_decoder
            yield train_stage(config, *stores)
        # Trainer and stage hold each other, and with them tens of GB of embeddings.
        gc.collect()
        torch.cuda.empty_cache()


def read_stores(
    config: TrainingConfig, train: Sequence[Sample], val: Sequence[Sample]
) -> tuple[ImageStore, ImageStore | None]:
    """Read all images into memory; what cannot be read is named and left out.

    Returns
    -------
    train, val : ImageStore
        `val` is None where there is no validation image.

    Raises
    ------
    ImageError
        If no training image can be read.
    """
    stores = []
    for samples in (train, val):
        store = ImageStore(samples, config.input_size, config.data.workers)
        for reason in store.failures.values():
            tqdm.write(f'Skipped: {reason}')
        stores.append(store)
    if not len(stores[0]):
        raise ImageError(
            'No training image could be read; the lines above say why for each.'
        )
    return stores[0], stores[1] if len(stores[1]) else None


def split_samples(config: TrainingConfig) -> tuple[list[Sample], list[Sample]]:
    """List what is trained on and what is looked at on the way.

    Returns
    -------
    train, val : list of Sample
        Limited as the configuration says; `train` without leaks from any validation
        image, whether it is looked at or not.
    """
    data = config.data
    train = limited(read_samples(data, data.train_splits), data.train_limit)
    every_val = read_samples(data, data.val_splits, required=False)
    val = limited(every_val, data.val_limit)
    looked_at = {sample.data_set for sample in val}
    for name in dict.fromkeys(sample.data_set for sample in train):
        if name not in looked_at:
            tqdm.write(
                f'{name} has no validation images: it is learnt from all the same.'
            )
    if data.drop_leaks:
        from napari_kdsam.training.data.leaks import drop_leaks

        train, dropped = drop_leaks(train, every_val)
        for leak in dropped:
            tqdm.write(f'Left out of training: {leak.describe()}')
    if data.drawn:
        from napari_kdsam.training.data.drawn import drawn_samples

        train += drawn_samples(data.drawn)
    return train, val


def _teacher_of(config: TrainingConfig) -> TeacherConfig:
    if config.teacher is None:
        raise ConfigError('Stage 1 needs a section `teacher`.')
    return config.teacher


def fill_teacher_cache(
    config: TrainingConfig, train: list[Sample], val: list[Sample]
) -> Path:
    """Embed every view of every image with the teacher, and return the cache.

    Only for a teacher that takes hours: others embed in memory when stage 1 starts.
    """
    from napari_kdsam.training.teachers.cache import EmbeddingCache
    from napari_kdsam.training.teachers.fill import fill_cache
    from napari_kdsam.training.teachers.teacher import open_teacher

    settings = _teacher_of(config)
    assert settings.cache is not None
    teacher = open_teacher(settings.weights, str(training_device(config.loop)))
    work = ((train, settings.views), (val, settings.views[:1]))
    with EmbeddingCache(
        settings.cache, teacher.key, teacher.name, writable=True
    ) as cache:
        for samples, views in work:
            with embedding_bar(teacher.name) as show:
                report = fill_cache(
                    cache, teacher, samples, views, settings.batch_size, show
                )
            tqdm.write(report.describe())
            for reason in report.failed.values():
                tqdm.write(f'Skipped: {reason}')
    return settings.cache


def _teacher_memories(
    config: TrainingConfig, train: ImageStore, val: ImageStore | None
) -> tuple[TeacherMemory, TeacherMemory | None]:
    """Embeddings of every image: from the cache on disk, or made now."""
    from napari_kdsam.training.teachers.cache import EmbeddingCache
    from napari_kdsam.training.teachers.memory import (
        fill_memory,
        memory_of_cache,
    )
    from napari_kdsam.training.teachers.teacher import open_teacher

    settings, device = _teacher_of(config), training_device(config.loop)
    dtype = torch.bfloat16 if device.type == 'cuda' else torch.float32
    cached = settings.cache is not None
    teacher = open_teacher(
        settings.weights, 'cpu' if cached else str(device), None if cached else dtype
    )
    work = ((train, settings.views), (val, settings.views[:1]))
    found: list[TeacherMemory | None] = []
    for store, views in work:
        if store is None:
            found.append(None)
            continue
        if settings.cache is not None:
            cache = EmbeddingCache(settings.cache, teacher.key, teacher.name)
            found.append(memory_of_cache(cache, store.samples, views, device))
            continue
        store.place_on(device)
        names = [sample.name for sample in store.samples]
        with embedding_bar(teacher.name) as show:
            found.append(
                fill_memory(
                    teacher,
                    store,
                    views,
                    settings.batch_size,
                    describe=names.__getitem__,
                    progress=show,
                )
            )
    assert found[0] is not None
    return found[0], found[1]


def _projection(
    config: TrainingConfig, memory: TeacherMemory, store: ImageStore
) -> Projection:
    """Fit the perceptual loss's projection once for a run; later calls read it."""
    from napari_kdsam.training.teachers.projection import (
        Projection,
        fit_projection,
    )

    path = config.folder / 'projection.safetensors'
    if path.is_file():
        found = Projection.load(path)
        if found.teacher_key == memory.teacher_key:
            return found
    path.parent.mkdir(parents=True, exist_ok=True)
    step = max(1, len(store) // _PROJECTION_IMAGES)
    projection = fit_projection(_image_parts(memory, store, step), memory.teacher_key)
    projection.save(path)
    return projection


def _image_parts(
    memory: TeacherMemory, store: ImageStore, step: int
) -> Iterator[NDArray[np.float32]]:
    """Embeddings of every `step`-th image, without the cells on padding."""
    for place in range(0, len(store), step):
        rows, columns = (
            max(1, length * EMBEDDING_SIZE // store.input_size)
            for length in store.sizes[place].tolist()
        )
        index = torch.tensor([place])
        (embedding,) = memory.get(index, torch.zeros_like(index)).float().cpu().numpy()
        yield embedding[:, :rows, :columns]


def _anchor(settings: DecoderStageConfig) -> Anchor | None:
    if settings.anchor is None or settings.anchor_weight == 0:
        return None
    from napari_kdsam.training.finetuning.anchor import Anchor
    from napari_kdsam.training.teachers.teacher import open_teacher

    return Anchor(open_teacher(settings.anchor, 'cpu'), settings.anchor_share)


def train_encoder(
    config: TrainingConfig, train: ImageStore, val: ImageStore | None
) -> Path:
    """Run stage 1 and return its checkpoint."""
    from napari_kdsam.training.distillation.losses import PerceptualLoss, load_vgg16
    from napari_kdsam.training.distillation.stage import EncoderStage
    from napari_kdsam.training.lightning_loop import fit

    assert config.encoder is not None
    settings = _teacher_of(config)
    memories = _teacher_memories(config, train, val)
    perceptual = None
    if config.encoder.perceptual_weight > 0:
        if settings.perceptual_weights is None:
            raise ConfigError(
                'encoder.perceptual_weight is above 0, so teacher.perceptual_weights '
                'must name the file with the features of VGG16.'
            )
        perceptual = PerceptualLoss(
            load_vgg16(settings.perceptual_weights),
            _projection(config, memories[0], train),
        )
    model = starting_model(config.initial, config.initial_decoder, config.input_size)
    earlier = dict(model.identity.metadata)
    stage = EncoderStage(
        model,
        config.encoder,
        config.loop.seed,
        train,
        memories[0],
        val,
        *memories[1:],
        perceptual=perceptual,
    )
    return fit(stage, config, 'encoder', earlier)


def train_decoder(
    config: TrainingConfig, train: ImageStore, val: ImageStore | None
) -> Path:
    """Run stage 2 and return its checkpoint."""
    from napari_kdsam.training.finetuning.stage import DecoderStage
    from napari_kdsam.training.lightning_loop import fit

    assert config.decoder is not None
    encoder = config.folder / 'encoder.safetensors'
    if config.encoder is not None and not encoder.is_file():
        raise ConfigError(
            f'{encoder} is not there: run `napari-kdsam train encoder` first, or take '
            'the section `encoder` out to start from `initial`.'
        )
    initial = encoder if config.encoder is not None else config.initial
    model = starting_model(initial, config.initial_decoder, config.input_size)
    earlier = dict(model.identity.metadata)
    stage = DecoderStage(
        model, config.decoder, config.loop.seed, train, val, _anchor(config.decoder)
    )
    return fit(stage, config, 'decoder', earlier)
