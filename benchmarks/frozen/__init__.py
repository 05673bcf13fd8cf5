"""
The opponents with their schema, statements, rows and messages, as of the first release: they never change.

Nothing here imports the worker or its schemas, so that no ratio is ever won by a slower opponent.
"""
