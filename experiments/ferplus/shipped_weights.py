"""Write the weights for ``init_from=shipped``: the weights of a training in half precision, with their card.

    python experiments/ferplus/shipped_weights.py RUN/weights.pt

Run it after every export of the model files in ``emodet/weights``; tests/test_shipped_model.py compares both.
"""

import sys
from pathlib import Path

from emodet.training.checkpoints import write_weights
from emodet.training.trained import SHIPPED, load_trained

trained = load_trained(Path(sys.argv[1]))
card = trained.card
print(f"{write_weights(trained.classifier.half(), card, SHIPPED)}, {SHIPPED.stat().st_size:,} bytes of weights")
