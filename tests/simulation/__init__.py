"""The protocol against a simulated log and database: seeded order, virtual time, and every fault that can be named."""
