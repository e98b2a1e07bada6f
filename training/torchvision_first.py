"""Imported before lightning, whose metrics import torchvision without asking."""

from napari_kdsam.model.torchvision_guard import import_torchvision

import_torchvision()
