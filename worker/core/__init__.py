"""The rules: functions of values. No I/O, no clock, no log, no randomness (import-linter holds it)."""
