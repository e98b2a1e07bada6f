"""Drawn phantoms with exact ground truth, to try and test segmentation with.

A phantom is drawn by a seeded program to resemble an ultrasound, dermoscopy or
endoscopy image. No phantom is, or derives from, an image of a patient, and doing well
on phantoms says nothing about accuracy on patients.
"""

from napari_kdsam.phantoms._dermoscopy import dermoscopy_phantom
from napari_kdsam.phantoms._endoscopy import endoscopy_phantom
from napari_kdsam.phantoms._phantom import Phantom
from napari_kdsam.phantoms._ultrasound import ultrasound_phantom

__all__ = [
    'Phantom',
    'dermoscopy_phantom',
    'endoscopy_phantom',
    'ultrasound_phantom',
]
