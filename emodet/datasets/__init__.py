"""Readers, which list the samples of data sets on disk: one module per family."""
