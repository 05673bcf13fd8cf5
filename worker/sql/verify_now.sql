-- verify_now: the database's clock, which is what `stored_at` is read from.
SELECT clock_timestamp() AS now
