"""Stage 3: learn on a frozen encoder's embeddings where targets are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from napari_kdsam.inference.proposals import proposals_of_maps
from napari_kdsam.model.device import preferred_dtype
from napari_kdsam.model.network import PromptableModel
from napari_kdsam.model.proposal_head import (
    ProposalHead,
    ProposalMetadata,
    save_head,
)
from napari_kdsam.training.config import ProposalsStageConfig
from napari_kdsam.training.data.order import TrainingBatch
from napari_kdsam.training.data.store import ImageStore
from napari_kdsam.training.parameter_groups import decay_groups
from napari_kdsam.training.progress import embedding_bar
from napari_kdsam.training.proposals.beside import PartsBeside
from napari_kdsam.training.proposals.losses import (
    class_loss,
    heatmap_loss,
    overlap_loss,
)
from napari_kdsam.training.proposals.targets import (
    FOUND,
    CentreMaps,
    ObjectBoxes,
    box_overlap,
    centre_maps,
    mirror_boxes,
)
from napari_kdsam.training.randomness import Draws
from napari_kdsam.training.squares import SquareStore
from napari_kdsam.training.stage import TrainingError, TrainingStage
from napari_kdsam.training.teachers.memory import (
    VIEWS,
    TeacherMemory,
    fill_memory,
)
from napari_kdsam.training.teachers.teacher import Teacher

_MOST_PROPOSALS = 5


class ProposalStage(TrainingStage[ProposalHead]):
    """Train the proposal head ("Objects as Points", arXiv 1904.07850).

    Every image is embedded once when training starts, so a step costs what the head
    costs. An image is shown as it is, mirrored, or by a part of it without target.

    Parameters
    ----------
    encoder : PromptableModel
        Fresh from its file; prepared for inference on the device that trains.
    digest : str
        `encoder_digest` of that file.
    config : ProposalsStageConfig
        Rates and weights of the losses.
    seed : int
        Of the run.
    store : ImageStore
        What is learnt from.
    val_store : ImageStore, optional
        What is looked at on the way.
    """

    config: ProposalsStageConfig

    def __init__(
        self,
        encoder: PromptableModel,
        digest: str,
        config: ProposalsStageConfig,
        seed: int,
        store: ImageStore,
        val_store: ImageStore | None = None,
    ) -> None:
        targets = ObjectBoxes.of_store(store)
        torch.manual_seed(seed)
        head = ProposalHead(
            ProposalMetadata(
                encoder=digest, threshold=config.threshold, classes=targets.classes
            )
        )
        super().__init__(head, config, seed, store, val_store)
        self.targets = targets
        self.val_targets = (
            ObjectBoxes.of_store(val_store, targets.classes) if val_store else None
        )
        self.beside = PartsBeside(store, config.beside_share)
        # In a tuple, so that it is no part of the stage's parameters.
        self._encoder = (encoder,)
        self._memory: TeacherMemory | None = None
        self._beside_memory: TeacherMemory | None = None
        self._val_memory: TeacherMemory | None = None

    def parameter_groups(self) -> list[dict[str, Any]]:
        config = self.config
        return decay_groups(self.model.parameters(), config.rate, config.weight_decay)

    def speed_up(self, compiled: bool) -> None:
        """Nothing: the head takes milliseconds as it is."""

    def save(self, path: Path, header: dict[str, Any]) -> None:
        metadata = self.model.metadata
        own = {'encoder': metadata.encoder, 'threshold': metadata.threshold}
        save_head(self.result, path, {**header, **own})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint['proposals'] = self._fits()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        kept, own = checkpoint.get('proposals', {}), self._fits()
        for what, name in (
            ('encoder', 'another encoder'),
            ('classes', 'other classes'),
        ):
            if kept.get(what) != own[what]:
                raise TrainingError(
                    f'{self.trainer.ckpt_path} belongs to {name}; delete it to train '
                    'anew.'
                )

    def _fits(self) -> dict[str, Any]:
        metadata = self.model.metadata
        return {'encoder': metadata.encoder, 'classes': list(metadata.classes)}

    def on_train_start(self) -> None:
        super().on_train_start()
        views = VIEWS if self.config.mirrored else VIEWS[:1]
        self._memory = self._embedded(self.store, views, self._name_of(self.store))
        self._beside_memory = self._embedded(
            self.beside, VIEWS[:1], self.beside.describe
        )
        self.targets = self.targets.to(self.device)

    def on_validation_start(self) -> None:
        if self._val_memory is None and self.val_store is not None:
            describe = self._name_of(self.val_store)
            self._val_memory = self._embedded(self.val_store, VIEWS[:1], describe)

    @staticmethod
    def _name_of(store: ImageStore) -> Callable[[int], str]:
        return lambda place: store.samples[place].name

    def _embedded(
        self,
        squares: SquareStore,
        views: tuple[str, ...],
        describe: Callable[[int], str],
    ) -> TeacherMemory:
        encoder = self._encoder[0]
        if not encoder.prepared:
            encoder.prepare(self.device, preferred_dtype(self.device))
        name, digest = encoder.identity.name, self.model.metadata.encoder
        teacher = Teacher(encoder, name, digest)
        with embedding_bar(name) as show:
            return fill_memory(
                teacher, squares, views, describe=describe, progress=show
            )

    def shown(self, batch: TrainingBatch, step: int) -> tuple[torch.Tensor, CentreMaps]:
        """Embeddings of a training batch, and what the maps should show of them.

        Returns
        -------
        features : torch.Tensor
            (B, 256, 64, 64) float32.
        targets : CentreMaps
        """
        assert self._memory is not None and self._beside_memory is not None
        places, count = batch['places'], len(self._memory.views)
        draws = Draws(self.seed, step, self.store.keys[places], self.device)
        chance = draws.on_host('view').tolist()
        shares = [count + (place in self.beside.rows) for place in places]
        views = torch.tensor([int(c * n) for c, n in zip(chance, shares, strict=True)])
        index = torch.tensor(places)
        whole = views < count
        features = self._memory.get(index, views.clamp(max=count - 1))
        rows = (~whole).nonzero()[:, 0]
        if len(rows):
            strips = torch.tensor([self.beside.rows[places[row]] for row in rows])
            beside = self._beside_memory.get(strips, torch.zeros_like(strips))
            features = features.index_copy(0, rows.to(self.device), beside)
        index, views, whole = (
            tensor.to(self.device, non_blocking=True)
            for tensor in (index, views, whole)
        )
        boxes, kinds = self.targets.boxes[index], self.targets.kinds[index]
        present = (self.targets.numbers[index] > 0) & whole[:, None]
        sizes = self.store.sizes.to(self.device)[index]
        mirrored = mirror_boxes(boxes, sizes[:, 1] / self.store.input_size)
        boxes = torch.where(((views == 1) & whole)[:, None, None], mirrored, boxes)
        return features.float(), centre_maps(boxes, kinds, present)

    def losses_of(self, batch: TrainingBatch, step: int) -> dict[str, torch.Tensor]:
        features, targets = self.shown(batch, step)
        # Dropout depends on seed, step and process alone, so a resumed run is the same.
        torch.manual_seed((self.seed * 1_000_003 + step) * 1_009 + self.global_rank)
        maps = self.model(features)
        heatmap = heatmap_loss(maps.scores, targets.heatmap)
        box = overlap_loss(maps.boxes, targets)
        name = class_loss(maps.classes, targets)
        total = heatmap + self.config.box_weight * box + self.config.class_weight * name
        return {'loss': total, 'heatmap': heatmap, 'box': box, 'class': name}

    def validation_step(self, batch: TrainingBatch, batch_idx: int) -> None:
        """Log how many of the objects have a proposal with a box like theirs."""
        store, targets, memory = self.val_store, self.val_targets, self._val_memory
        assert store is not None and targets is not None and memory is not None
        index = torch.tensor(batch['places'])
        maps = self.result(memory.get(index, torch.zeros_like(index)).float())
        scores, boxes = maps.scores.sigmoid().float().cpu(), maps.boxes.float().cpu()
        for row, (place, number) in enumerate(
            zip(batch['places'], batch['numbers'], strict=True)
        ):
            truths = targets.boxes[place][targets.numbers[place] == number]
            if not len(truths):
                continue
            rows, columns = store.sizes[place].tolist()
            found = proposals_of_maps(
                scores[row],
                boxes[row],
                (rows, columns),
                self.config.threshold,
                _MOST_PROPOSALS,
            )
            overlaps = [
                box_overlap(proposal.box, truth)
                for proposal in found
                for truth in (truths * store.input_size).tolist()
            ]
            self.log(
                f'val/found/{store.samples[place].data_set}',
                float(max(overlaps, default=0.0) >= FOUND),
                on_epoch=True,
                batch_size=1,
                sync_dist=True,
            )
