-- redrive_take: note that these dead letters are about to be sent; a row for each that was not sent before.
-- $1 text[] topics  $2 int[] partitions  $3 bigint[] offsets  $4 timestamptz[] recorded at  $5 text who
-- One that was taken before and not noted as sent is taken again: whoever took it was stopped in between.
INSERT INTO dead_letter_redrives AS r (topic, partition, "offset", recorded_at, taken_by)
SELECT w.topic, w.partition, w."offset", w.recorded_at, $5
FROM unnest($1::text[], $2::int[], $3::bigint[], $4::timestamptz[]) AS w (topic, partition, "offset", recorded_at)
ORDER BY 1, 2, 3, 4
ON CONFLICT ON CONSTRAINT dead_letter_redrives_pk DO UPDATE
SET taken_at = excluded.taken_at, taken_by = excluded.taken_by, login = excluded.login
WHERE r.status = 'taken'
RETURNING r.topic, r.partition, r."offset", r.recorded_at
