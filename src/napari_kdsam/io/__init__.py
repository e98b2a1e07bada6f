"""Files: readers and writers."""
