"""Keys in a layer's metadata by which our own layers are known."""

# Helper layers, which are no labels to commit to or to measure.
HELPER_KEY = 'napari-kdsam helper'
# Labels layers made by the plugin, whose colours it may set.
OURS = 'napari-kdsam labels'
# The colours that it has set of them, by label.
COLORS_SET = f'{OURS} colours'
# Layers that are in other hands than the annotator's, and stay what they are.
HELD = 'napari-kdsam held'
