"""Measures: the worker's pace beside that of others, its memory over a long backlog, its answer at rest (README.md here)."""
