"""What an operator does: verify, ask for a status, follow events, order a stopped partition on, publish a catalogue."""
