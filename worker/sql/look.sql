-- look: is a partition still as its lane left it?
-- $1 text topic  $2 int partition  $3 bigint the lowest offset whose messages the lane has not yet deleted
-- One row; `reappeared` is true where a message is back that this lane had deleted: an older state of the database.
SELECT k.next_offset, k.owner, k.resume_at_offset, k.skip_offset,
  (SELECT count(*) FROM outbox WHERE command_topic = $1 AND command_partition = $2) AS outbox_rows,
  (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(stored_at)), 0)::float8
    FROM outbox WHERE command_topic = $1 AND command_partition = $2) AS outbox_oldest_s,
  EXISTS (
    SELECT FROM outbox
    WHERE command_topic = $1 AND command_partition = $2 AND command_offset < $3
  ) AS reappeared
FROM kafka_offsets AS k
WHERE k.topic = $1 AND k.partition = $2
