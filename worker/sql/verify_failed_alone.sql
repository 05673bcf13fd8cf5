-- verify_failed_alone: registrations that FAILED, without a dead letter of the record that they name.
-- $1 int most rows
SELECT r.registration_id AS id,
  'no dead letter of ' || concat_ws('/', r.command_topic, r.command_partition, r.command_offset) AS detail,
  count(*) OVER () AS total
FROM registrations AS r
WHERE r.status = 'FAILED' AND NOT EXISTS (
  SELECT FROM dead_letters AS d
  WHERE d.topic = r.command_topic AND d.partition = r.command_partition AND d."offset" = r.command_offset
)
ORDER BY r.registration_id, r.tenant_id
LIMIT $1
