-- retention_registrations: remove registrations that were refused or failed too long ago, oldest first of each tenant.
-- $1 text[] tenant ids  $2 timestamptz[] what was decided before goes  $3 int most rows
-- One that a lane holds is left for the next time. One whose event has not left the outbox stays: no event without its row.
-- By place, since the rows are locked: a join would read the whole table where that looks cheaper.
DELETE FROM registrations
WHERE status IN ('REJECTED', 'FAILED') AND ctid = ANY (ARRAY(
  SELECT r.place
  FROM unnest($1::text[], $2::timestamptz[]) AS t (tenant_id, before)
  CROSS JOIN LATERAL (
    SELECT r.ctid AS place
    FROM registrations AS r
    WHERE r.tenant_id = t.tenant_id AND r.status IN ('REJECTED', 'FAILED') AND r.decided_at < t.before
      AND NOT EXISTS (
        SELECT FROM outbox AS o
        WHERE o.command_topic = r.command_topic AND o.command_partition = r.command_partition
          AND o.command_offset = r.command_offset
      )
    ORDER BY r.decided_at
    LIMIT $3
    FOR UPDATE OF r SKIP LOCKED
  ) AS r
  LIMIT $3
))
