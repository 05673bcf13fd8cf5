-- retention_turn: whether it is this transaction's turn to remove what is old, and the database's clock.
-- $1 bigint advisory lock
-- One worker of all at a time, for the length of its transaction; nobody waits.
SELECT pg_try_advisory_xact_lock($1) AS mine, statement_timestamp() AS now
