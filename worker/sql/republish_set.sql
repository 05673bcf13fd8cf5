-- republish_set: freeze the facts of a time, in the order in which they were decided: that of their commands on each partition.
-- $1 timestamptz from  $2 timestamptz up to, without it; null for all since
-- Once, by one sort: there is no index on the time, which would cost every batch, and a page at a time would read all for each.
INSERT INTO republish (place, registration_id, tenant_id)
SELECT row_number() OVER (ORDER BY decided_at, command_topic, command_partition, command_offset), registration_id, tenant_id
FROM registrations
WHERE decided_at >= $1 AND ($2::timestamptz IS NULL OR decided_at < $2) AND status IN ('REGISTRATION_COMPLETE', 'REJECTED')
