-- partitions: how the partitions of a topic stand, with what waits in their outbox.
-- $1 text topic
SELECT coalesce(k.partition, o.partition) AS partition, k.next_offset, k.owner, k.claimed_at, k.moved_at,
  k.dead_letter_run, k.resume_at_offset, k.skip_offset, coalesce(o.messages, 0) AS outbox, o.oldest_s AS outbox_oldest_s
FROM (SELECT * FROM kafka_offsets WHERE topic = $1) AS k
FULL JOIN (
  SELECT command_partition AS partition, count(*) AS messages,
    extract(epoch FROM clock_timestamp() - min(stored_at))::double precision AS oldest_s
  FROM outbox
  WHERE command_topic = $1
  GROUP BY command_partition
) AS o ON o.partition = k.partition
ORDER BY 1
