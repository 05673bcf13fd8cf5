"""Tests: laws and tables, the doors to the servers, the story from POST to event, and faults."""
