"""Training of KD SAM: distil the encoder, fine-tune the decoder, learn proposals.

Needs the extra ``training``; see `napari_kdsam.core.extras.require_training_extra`.
"""

from napari_kdsam.model.torchvision_guard import import_torchvision

# Before lightning and monai, which import torchvision without asking.
import_torchvision()
