"""Teachers to distil and the cache of their embeddings."""
