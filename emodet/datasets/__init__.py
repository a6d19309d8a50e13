"""Readers of data sets on disk: one module per family, each lists samples."""
