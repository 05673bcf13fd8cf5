-- verify_commands: of commands that are behind the position, those that are not simply the one that their registration came from.
-- $1 text topic  $2 int partition  $3 bigint[] offsets  $4 timestamptz[] record times  $5 text[] registration ids, null where
-- none can be read  $6 text[] tenant ids
-- An equal offset with another time belongs to a topic that was made anew since.
SELECT w."offset", w.recorded_at, r.status, r.own, d.code, d.sealed
FROM unnest($3::bigint[], $4::timestamptz[], $5::text[], $6::text[]) AS w ("offset", recorded_at, registration_id, tenant_id)
LEFT JOIN LATERAL (
  SELECT r.status,
    r.command_offset = w."offset" AND r.command_partition = $2 AND r.command_topic = $1 AND r.decided_at = w.recorded_at AS own
  FROM registrations AS r
  WHERE r.registration_id = w.registration_id AND r.tenant_id = w.tenant_id
) AS r ON true
LEFT JOIN LATERAL (
  SELECT d.code, d.sealed
  FROM dead_letters AS d
  WHERE d.topic = $1 AND d.partition = $2 AND d."offset" = w."offset" AND d.recorded_at = w.recorded_at
) AS d ON true
WHERE d.code IS NOT NULL OR r.own IS NOT TRUE OR r.status = 'FAILED'
