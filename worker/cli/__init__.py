"""The commands of `registration`, a module for each group; `worker/__main__.py` puts them together."""
