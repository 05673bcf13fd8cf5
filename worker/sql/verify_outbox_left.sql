-- verify_outbox_left: messages that were in the outbox at a time and still are.
-- $1 timestamptz stored at or before  $2 int most rows
SELECT command_topic, command_partition, command_offset, kind, count(*) OVER () AS total
FROM outbox
WHERE stored_at <= $1
ORDER BY command_topic, command_partition, command_offset
LIMIT $2
