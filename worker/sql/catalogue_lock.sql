-- catalogue_lock: from now on nobody reads catalogues, until `catalogue_unlock` or the session's end.
-- $1 bigint the lock
-- Of the session and not of the transaction: it has to be kept until the COMMIT is answered.
SELECT pg_advisory_lock($1)
