"""What an annotator has done so far: prompts, candidates, commits, undo. No Qt."""
