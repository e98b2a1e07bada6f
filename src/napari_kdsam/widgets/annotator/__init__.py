"""Click to label: the annotator's dock and layers."""
