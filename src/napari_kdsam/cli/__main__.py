"""``python -m napari_kdsam.cli``."""

from napari_kdsam.cli.main import main

main()
