"""From a configuration to data, teacher and stages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

# Before lightning, whose metrics import torchvision.
from napari_kdsam.model.torchvision_guard import import_segment_anything  # isort: skip
from napari_kdsam.training.config import ConfigError, DataConfig, TrainingConfig
from napari_kdsam.training.data.dataset import SegmentationDataset
from napari_kdsam.training.data.samples import Sample
from napari_kdsam.training.data.shards import read_shards
from napari_kdsam.training.student import starting_model

import_segment_anything()

PARTS = ('cache-teacher', 'encoder', 'decoder')


def read_samples(config: DataConfig, splits: Sequence[str]) -> list[Sample]:
    """List the samples of some splits of every source."""
    found: list[Sample] = []
    for source in config.sources:
        if source.layout == 'shards':
            found += read_shards(source.folder, source.data_sets, splits)
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
        'cache-teacher': config.teacher is not None and config.encoder is not None,
        'encoder': config.encoder is not None,
        'decoder': config.decoder is not None,
    }
    chosen = [part for part in parts if described[part]]
    if not chosen:
        raise ConfigError(f'The configuration has no section for {" or ".join(parts)}.')
    for part in chosen:
        if part == 'decoder':
            yield train_decoder(config)


def _datasets(
    config: TrainingConfig,
) -> tuple[SegmentationDataset, SegmentationDataset]:
    data = config.data
    train = limited(read_samples(data, data.train_splits), data.train_limit)
    val = limited(read_samples(data, data.val_splits), data.val_limit)
    size = config.input_size
    return SegmentationDataset(train, size), SegmentationDataset(val, size)


def train_decoder(config: TrainingConfig) -> Path:
    """Run stage 2 and return its checkpoint."""
    from napari_kdsam.training.decoder_stage import DecoderStage
    from napari_kdsam.training.loop import fit

    assert config.decoder is not None
    train, val = _datasets(config)
    encoder = config.folder / 'encoder.safetensors'
    initial = encoder if config.encoder is not None else config.initial
    model = starting_model(initial, config.initial_decoder, config.input_size)
    earlier = dict(model.identity.metadata)
    stage = DecoderStage(model, config.decoder, config.loop.seed)
    return fit(stage, config, 'decoder', train, val, earlier)
