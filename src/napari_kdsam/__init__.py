"""One click on an ultrasound, dermoscopy or endoscopy image becomes a label, offline.

The public names are loaded when first used, so that importing the package (and
starting napari) loads neither torch nor Qt.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
