"""Drawn faces that show the eight emotions."""
