-- retention_letters: remove dead letters of too long ago, oldest first of each tenant.
-- $1 text[] tenant ids, '' for letters of nobody's  $2 timestamptz[] what was recorded before goes  $3 int most rows
-- One that a FAILED registration names stays as long as that, and one that has not left the outbox. By place, as registrations are.
DELETE FROM dead_letters
WHERE ctid = ANY (ARRAY(
  SELECT d.place
  FROM unnest($1::text[], $2::timestamptz[]) AS t (tenant_id, before)
  CROSS JOIN LATERAL (
    SELECT d.ctid AS place
    FROM dead_letters AS d
    WHERE coalesce(d.tenant_id, '') = t.tenant_id AND d.recorded_at < t.before
      AND NOT EXISTS (
        SELECT FROM registrations AS r
        WHERE r.registration_id = d.registration_id AND r.tenant_id = d.tenant_id AND r.status = 'FAILED'
          AND r.command_topic = d.topic AND r.command_partition = d.partition AND r.command_offset = d."offset"
      )
      AND NOT EXISTS (
        SELECT FROM outbox AS o
        WHERE o.command_topic = d.topic AND o.command_partition = d.partition AND o.command_offset = d."offset"
      )
    ORDER BY d.recorded_at
    LIMIT $3
    FOR UPDATE OF d SKIP LOCKED
  ) AS d
  LIMIT $3
))
