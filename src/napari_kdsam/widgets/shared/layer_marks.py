"""Keys in a layer's metadata by which our own layers are known."""

# Helper layers, which are no labels to commit to or to measure.
HELPER_KEY = 'napari-kdsam helper'
# Labels layers made by the plugin, whose colours it may set.
OURS = 'napari-kdsam labels'
# Layers that are in other hands than the annotator's, and stay what they are.
HELD = 'napari-kdsam held'
