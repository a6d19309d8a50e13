"""From trained weights to model files: the graph, its quantisation, and the parity check."""
