"""
Two services that act on `CustomerRegistered`, as examples to copy: `verification` and `consent`.

Each takes what the event says the customer must do, once for each fact, and shows what it would ask. They import `schemas`,
`tracing`, aiokafka and structlog, and nothing of the worker.
"""
