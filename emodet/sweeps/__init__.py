"""Hyper-parameter search with Optuna, and comparison of runs."""
