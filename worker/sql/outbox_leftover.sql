-- outbox_leftover: the messages of a partition that are committed and not known to be published, oldest first.
-- $1 text topic  $2 int partition  $3 int most rows
SELECT command_offset, kind, key, value, headers, sealed
FROM outbox
WHERE command_topic = $1 AND command_partition = $2
ORDER BY command_offset, kind
LIMIT $3
