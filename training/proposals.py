"""Train the proposal head on embeddings of a frozen encoder."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from napari_kdsam.errors import CheckpointError
from napari_kdsam.inference.predictor import Predictor
from napari_kdsam.model.loading import load_model
from napari_kdsam.model.proposal_head import (
    HEATMAP_SIZE,
    ProposalHead,
    encoder_digest,
    save_head,
)
from napari_kdsam.model.registry import DEFAULT_MODEL
from napari_kdsam.training.config import DataConfig, FilePath
from napari_kdsam.training.data.dataset import StepSampler
from napari_kdsam.training.data.samples import Sample
from napari_kdsam.training.proposal_data import EmbeddingStore
from napari_kdsam.training.proposal_losses import (
    centre_targets,
    heatmap_loss,
    overlap_loss,
)
from napari_kdsam.training.run import limited, read_samples
from napari_kdsam.training.stage import TrainingError
from napari_kdsam.training.student import warmup_cosine

LAST = 'last.ckpt'
WEIGHTS = 'proposals.safetensors'
# Every image is embedded once; a few are kept for the masks of the report.
_CACHE_BYTES = 16 * 1024**2
_LICENCE = (
    'Apache-2.0; trained on research data sets (Kvasir-SEG: research and education): '
    'see the model card'
)


class ProposalsConfig(BaseModel):
    """A whole training of the proposal head.

    Attributes
    ----------
    name : str
        Of the run; its files are in ``out/name``.
    out : pathlib.Path
        Folder of all runs.
    model : str
        Name or file of the KD SAM model whose frozen encoder is used.
    device : str
        Where images are embedded: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``;
        the head is small enough to be trained on the CPU.
    data : DataConfig
        Which images; ``workers`` has no effect here.
    beside_share : float
        Of this share of the images, a part without target is learnt from too.
    steps, batch_size, warmup_steps : int
        Of the optimiser, AdamW with a cosine schedule.
    rate, weight_decay, clip : float
        Learning rate, AdamW's decay, largest gradient norm.
    box_weight : float
        Weight of the box loss beside the heatmap's.
    ema_decay : float
        Exponential moving average of the weights, which is what is kept.
    threshold : float
        Score from which a proposal counts, written into the head.
    checkpoint_every, log_every : int
        In steps.
    seed : int
        Of order and first weights.
    """

    model_config = ConfigDict(extra='forbid')

    name: str = Field(pattern=r'^[\w.-]+$')
    out: FilePath = Path('runs')
    model: str = DEFAULT_MODEL
    device: str = 'auto'
    data: DataConfig
    beside_share: float = Field(0.25, ge=0, le=1)
    steps: PositiveInt
    batch_size: PositiveInt = 16
    warmup_steps: NonNegativeInt = 50
    rate: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 0.02
    clip: PositiveFloat = 5.0
    box_weight: NonNegativeFloat = 1.0
    ema_decay: float = Field(0.99, ge=0, lt=1)
    threshold: float = Field(0.3, gt=0, lt=1)
    checkpoint_every: PositiveInt = 100
    log_every: PositiveInt = 20
    seed: NonNegativeInt = 0

    @property
    def folder(self) -> Path:
        """Where this run's files are."""
        return self.out / self.name


class ProposalTraining:
    """Head, optimiser and schedule of a run, resumable at any checkpoint.

    Parameters
    ----------
    config : ProposalsConfig
        Of the run.
    store : EmbeddingStore
        Filled.
    """

    def __init__(self, config: ProposalsConfig, store: EmbeddingStore) -> None:
        if not len(store):
            raise TrainingError('No image could be read, so there is nothing to learn.')
        self.config = config
        self.store = store
        torch.manual_seed(config.seed)
        self.head = ProposalHead()
        self.average = AveragedModel(
            self.head, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay)
        ).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.head.parameters(), lr=config.rate, weight_decay=config.weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer,
            lambda step: warmup_cosine(step, config.warmup_steps, config.steps),
        )
        self.step = 0

    @property
    def result(self) -> ProposalHead:
        """The weights to keep, in evaluation mode."""
        return cast(ProposalHead, self.average.module).eval()

    def run(self) -> list[float]:
        """Train to the last step, from the last checkpoint if there is one.

        Returns
        -------
        list of float
            Loss of each step done now.

        Raises
        ------
        TrainingError
            If the loss stops being finite, or the checkpoint cannot be used.
        """
        config = self.config
        self.resume()
        sampler = StepSampler(
            [entry['data_set'] for entry in self.store],
            config.batch_size,
            config.seed,
            config.data.balance,
            start=self.step,
        )
        losses: list[float] = []
        batches = iter(sampler)
        with tqdm(
            total=config.steps, initial=self.step, unit='step', mininterval=5
        ) as bar:
            while self.step < config.steps:
                losses.append(self.learn([index for index, _ in next(batches)]))
                bar.update()
                if self.step % config.log_every == 0:
                    recent = losses[-config.log_every :]
                    bar.set_postfix(loss=f'{sum(recent) / len(recent):.3f}')
                if self.step % config.checkpoint_every == 0:
                    self.keep()
        self.keep()
        return losses

    def learn(self, rows: list[int]) -> float:
        """Take one step on some entries of the store, and return its loss."""
        # Dropout depends on seed and step alone, so a resumed run is the same run.
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)
        features, boxes = self.store.batch(rows)
        heatmap, targets = centre_targets(boxes, HEATMAP_SIZE)
        self.head.train()
        with torch.autocast('cpu', torch.bfloat16):
            logits, proposed = self.head(torch.from_numpy(features).float())
        loss = heatmap_loss(logits, heatmap) + self.config.box_weight * overlap_loss(
            proposed, targets, heatmap
        )
        if not bool(torch.isfinite(loss)):
            names = ', '.join(self.store.entries[row]['name'] for row in rows[:3])
            raise TrainingError(
                f'The loss is not finite at step {self.step} with the images {names} '
                'and others; the last checkpoint is kept. Lower the learning rate.'
            )
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.head.parameters(), self.config.clip)
        self.optimizer.step()
        self.schedule.step()
        self.average.update_parameters(self.head)
        self.step += 1
        return float(loss.detach())

    def keep(self) -> None:
        """Write checkpoint and weights, each in one replacement."""
        folder = self.config.folder
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f'.{LAST}.part'
        torch.save(
            {
                'step': self.step,
                'encoder': self.store.encoder,
                'head': self.head.state_dict(),
                'average': self.average.state_dict(),
                'optimizer': self.optimizer.state_dict(),
                'schedule': self.schedule.state_dict(),
            },
            part,
        )
        os.replace(part, folder / LAST)
        save_head(self.result, folder / WEIGHTS, self._header())

    def resume(self) -> None:
        """Go on from the last checkpoint, if there is one.

        Raises
        ------
        TrainingError
            If it cannot be read, or is of another encoder.
        """
        path = self.config.folder / LAST
        if not path.is_file():
            return
        again = 'delete it to train anew.'
        try:
            state = torch.load(path, map_location='cpu', weights_only=True)
            encoder = state['encoder']
            self.head.load_state_dict(state['head'])
            self.average.load_state_dict(state['average'])
            self.optimizer.load_state_dict(state['optimizer'])
            self.schedule.load_state_dict(state['schedule'])
            self.step = int(state['step'])
        except Exception as error:  # torch has no common base class for damaged files
            raise TrainingError(
                f'{path} cannot be resumed from ({error}); {again}'
            ) from error
        if encoder != self.store.encoder:
            raise TrainingError(f'{path} belongs to another encoder; {again}')

    def _header(self) -> dict[str, Any]:
        counts = Counter((e['data_set'], e['view']) for e in self.store)
        recipe = self.config.model_dump(mode='json', exclude={'data', 'out', 'model'})
        return {
            'encoder': self.store.encoder,
            'threshold': self.config.threshold,
            'data': ', '.join(sorted({e['data_set'] for e in self.store})),
            'licence': _LICENCE,
            'views': {
                f'{name}/{view}': n for (name, view), n in sorted(counts.items())
            },
            'steps': self.step,
            'recipe': recipe,
        }


def proposal_samples(data: DataConfig) -> tuple[list[Sample], list[Sample]]:
    """List what is trained on (without leaks from validation) and reported on."""
    train = limited(read_samples(data, data.train_splits), data.train_limit)
    every_val = read_samples(data, data.val_splits)
    if data.drop_leaks:
        from napari_kdsam.training.data.leaks import drop_leaks

        train, dropped = drop_leaks(train, every_val)
        for leak in dropped:
            tqdm.write(f'Left out of training: {leak.describe()}')
    if data.drawn:
        from napari_kdsam.training.data.drawn import drawn_samples

        train += drawn_samples(data.drawn)
    return train, limited(every_val, data.val_limit)


def train_proposals(config: ProposalsConfig) -> list[Path]:
    """Embed, train, and report on the validation images.

    Parameters
    ----------
    config : ProposalsConfig
        The whole run.

    Returns
    -------
    list of pathlib.Path
        The head and the report.

    Raises
    ------
    KDSAMError
        If data, model or an earlier run's files cannot be used.
    """
    from napari_kdsam.training.proposal_report import report, write_report

    model = load_model(config.model, config.device)
    digest = encoder_digest(model.identity.path)
    if not digest:
        raise CheckpointError(
            f'{config.model} is no KD SAM file; proposals are trained for those only.'
        )
    predictor = Predictor(model, cache_bytes=_CACHE_BYTES)
    train, val = proposal_samples(config.data)
    store = EmbeddingStore(config.folder / 'embeddings', digest)
    store.fill(predictor, train, config.beside_share)
    training = ProposalTraining(config, store)
    training.run()
    head = training.result.to(model.device)
    rows = report(predictor, head, val)
    table = write_report(rows, config.threshold, config.folder)
    return [config.folder / WEIGHTS, table]
