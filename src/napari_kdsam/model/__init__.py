"""Networks and weights: torch only; knows no image file and no viewer."""
