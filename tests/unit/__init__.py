"""Laws of the pure parts, without servers."""

import os

from hypothesis import Phase, settings

# How long an example takes says something about the machine, not about a law.
settings.register_profile("laws", deadline=None)
# Hundreds of runs that need no small example, only the same ones each time: see tests/mutants.py.
settings.register_profile("mutants", deadline=None, derandomize=True, max_examples=50, phases=[Phase.explicit, Phase.generate])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "laws"))
