-- verify_events_missing: outcomes behind the positions of `verify_offsets` whose event is neither on its topic nor in the outbox.
-- $1 text topic of the commands  $2 timestamptz events of outcomes since then must still be kept  $3 int most rows
SELECT r.registration_id AS id, 'the event of ' || r.status || ' is neither on the topic nor in the outbox' AS detail,
  count(*) OVER () AS total
FROM registrations AS r
JOIN verify_offsets AS o ON o.partition = r.command_partition AND r.command_offset < o.next_offset
WHERE r.command_topic = $1 AND r.status <> 'FAILED' AND r.decided_at >= $2
  AND NOT EXISTS (
    SELECT FROM verify_events AS e
    WHERE e.registration_id = r.registration_id AND e.tenant_id = r.tenant_id AND e.status = r.status
  )
  AND NOT EXISTS (
    SELECT FROM verify_outbox AS b
    WHERE b.partition = r.command_partition AND b."offset" = r.command_offset AND b.kind = 'event'
  )
ORDER BY r.registration_id, r.tenant_id
LIMIT $3
