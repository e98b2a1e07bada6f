"""Many images: items, prompts for each, what became of them; no Qt."""
