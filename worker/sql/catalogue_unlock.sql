-- catalogue_unlock: workers may read catalogues again.
-- $1 bigint the lock
SELECT pg_advisory_unlock($1)
