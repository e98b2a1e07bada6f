"""From a configuration and stores to a proposal head and its report."""

from __future__ import annotations

from pathlib import Path

from napari_kdsam.core.errors import CheckpointError
from napari_kdsam.inference.predictor import Predictor
from napari_kdsam.model.checkpoint import load_kdsam
from napari_kdsam.model.loading import load_model
from napari_kdsam.model.proposal_head import encoder_digest, load_head
from napari_kdsam.model.registry import DEFAULT_MODEL, find_model
from napari_kdsam.training.config import ConfigError, TrainingConfig
from napari_kdsam.training.data.store import ImageStore
from napari_kdsam.training.device import training_device
from napari_kdsam.training.lightning_loop import fit
from napari_kdsam.training.proposals.report import REPORT, report, write_proposal_report
from napari_kdsam.training.proposals.stage import ProposalStage

NAME = 'proposals'


def train_proposals(
    config: TrainingConfig, train: ImageStore, val: ImageStore | None
) -> list[Path]:
    """Run stage 3, and report on the validation images.

    Parameters
    ----------
    config : TrainingConfig
        The whole run; the encoder is that of its last stage, or else of `initial`.
    train, val : ImageStore
        What is learnt from, and what is reported on.

    Returns
    -------
    list of pathlib.Path
        The head and, where there is a validation image, the report.

    Raises
    ------
    KDSAMError
        If the model or an earlier run's files cannot be used.
    """
    assert config.proposals is not None
    path = encoder_path(config)
    digest = encoder_digest(path)
    if not digest:
        raise CheckpointError(
            f'{path.name} is no KD SAM file; proposals are trained for those only.'
        )
    model = load_kdsam(path)
    stage = ProposalStage(model, digest, config.proposals, config.loop.seed, train, val)
    weights = fit(stage, config, NAME, dict(model.identity.metadata))
    if val is None:
        return [weights]
    table = config.folder / NAME / REPORT
    # A run that had ended needs no second report.
    if not table.is_file() or table.stat().st_mtime < weights.stat().st_mtime:
        device = training_device(config.loop)
        predictor = Predictor(load_model(path, str(device)), cache_bytes=0)
        head = load_head(weights, digest).to(predictor.model.device)
        rows = report(predictor, head, val.samples)
        write_proposal_report(rows, head.metadata.threshold, table.parent)
    return [weights, table]


def encoder_path(config: TrainingConfig) -> Path:
    """The KD SAM checkpoint whose encoder is used.

    Raises
    ------
    ConfigError
        If an earlier stage of the run has not been run.
    """
    for stage in ('decoder', 'encoder'):
        if getattr(config, stage) is None:
            continue
        path = config.folder / f'{stage}.safetensors'
        if not path.is_file():
            raise ConfigError(
                f'{path} is not there: run `napari-kdsam train {stage}` first, or take '
                f'the section `{stage}` out.'
            )
        return path
    return config.initial or Path(find_model(DEFAULT_MODEL).path)
