"""Many runs with one command: grids, seeds and searches, what they leave behind, and how they compare."""
