"""Augmentation on the device: geometry, appearance and what each modality shows."""
