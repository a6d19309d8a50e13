"""Packs, splits, augmentation, batches, and the data module."""
