"""Stage 2: fine-tune the mask decoder with simulated prompts."""
