"""Laws of the pure parts, without servers."""

from hypothesis import settings

# How long an example takes says something about the machine, not about a law.
settings.register_profile("laws", deadline=None)
settings.load_profile("laws")
