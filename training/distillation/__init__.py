"""Stage 1: distil the teacher's image encoder into the student."""
