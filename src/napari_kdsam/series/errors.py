"""What can be wrong with a series."""

from __future__ import annotations

from napari_kdsam.core.errors import KDSAMError


class SeriesError(KDSAMError, ValueError):
    """A series that cannot be opened or gone on with."""
