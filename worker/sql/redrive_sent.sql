-- redrive_sent: note that Kafka has these dead letters again, and where.
-- $1 text[] topics  $2 int[] partitions  $3 bigint[] offsets  $4 timestamptz[] recorded at
-- $5 int[] partitions that they were sent to  $6 bigint[] their offsets there
UPDATE dead_letter_redrives AS r
SET status = 'sent', sent_at = clock_timestamp(), sent_partition = w.sent_partition, sent_offset = w.sent_offset
FROM unnest($1::text[], $2::int[], $3::bigint[], $4::timestamptz[], $5::int[], $6::bigint[])
  AS w (topic, partition, "offset", recorded_at, sent_partition, sent_offset)
WHERE r.topic = w.topic AND r.partition = w.partition AND r."offset" = w."offset" AND r.recorded_at = w.recorded_at
