-- redrive_lock: one redrive at a time; the lock goes with its session, however that ends.
-- $1 bigint the lock
SELECT pg_try_advisory_lock($1) AS held
