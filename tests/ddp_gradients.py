"""Run one step of stage 2 on N processes and keep the gradients; a test calls this."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from napari_kdsam.training.config import TrainingConfig
from napari_kdsam.training.data.store import ImageStore
from napari_kdsam.training.finetuning.stage import DecoderStage
from napari_kdsam.training.initial_weights import starting_model
from napari_kdsam.training.lightning_loop import fit
from napari_kdsam.training.recipe import read_samples


class Watched(DecoderStage):
    """Stage 2 that writes down its gradients, after processes have shared them."""

    out: Path

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        if self.global_rank == 0:
            from safetensors.torch import save_file

            found = {n: p.grad for n, p in self.named_parameters() if p.requires_grad}
            save_file(
                {n: g.contiguous() for n, g in found.items() if g is not None}, self.out
            )


def main() -> None:
    folder, processes, out = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    config = TrainingConfig.model_validate(
        {
            'name': f'processes-{processes}',
            'out': out.parent / 'runs',
            'data': {'sources': [{'folder': folder}]},
            'decoder': {
                'steps': 1,
                'batch_size': 2 // processes,
                'neck_rate': 1e-4,
                'geometry': False,
                'appearance': False,
                'cross_entropy_weight': 0.5,
            },
            'loop': {
                'precision': '32-true',
                'accelerator': 'cpu',
                'devices': processes,
                'strategy': 'ddp' if processes > 1 else 'auto',
            },
        }
    )
    assert config.decoder is not None
    store = ImageStore(read_samples(config.data, ['train']), 512)
    stage = Watched(starting_model(None, None, 512), config.decoder, 0, store)
    stage.out = out
    fit(stage, config, 'decoder', {})


if __name__ == '__main__':
    main()
