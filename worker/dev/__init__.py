"""Everything a developer runs on one machine: real servers without an installation, the demo, tokens."""
