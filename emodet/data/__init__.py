"""From data sets on disk to batches: readers, records, packs, the data module."""
