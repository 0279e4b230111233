"""The tests, in folders named after the program's; what they share is in `oracles` and `makers`.

They are packages: so `tests.models` hides no `models`, and no installed `tests` hides ours (tf-keras-vis brings one).
"""

from pathlib import Path

ROOT = Path(__file__).parent.parent
