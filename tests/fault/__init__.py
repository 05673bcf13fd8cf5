"""Faults: real processes and servers are killed, frozen and started again; `registration verify` has the last word."""
