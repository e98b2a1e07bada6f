from .core.geometry import box_of_mask
from .core.intensity import IntensityMapping
from .core.mask_prompts import logits_of_mask
from .core.prompts import Prompt
from .core.version import __version__
from .inference.predictor import Candidate, ImageEmbedding, Prediction, Predictor
from .inference.second_look import look_again
from .model.checkpoint import save_kdsam
from .model.loading import load_model
from .model.registry import list_models

__all__ = [
    'Candidate',
    'ImageEmbedding',
    'IntensityMapping',
    'Prediction',
    'Predictor',
    'Prompt',
    '__version__',
    'box_of_mask',
    'list_models',
    'load_model',
    'logits_of_mask',
    'look_again',
    'save_kdsam',
]
