-- verify_letters_missing: dead letters of the table behind the positions of `verify_offsets` that are neither on their topic nor in
-- the outbox.
-- $1 text topic of the commands  $2 timestamptz letters of records since then must still be kept  $3 int most rows
SELECT concat_ws('/', d.topic, d.partition, d."offset") AS id, 'neither on its topic nor in the outbox: ' || d.code AS detail,
  count(*) OVER () AS total
FROM dead_letters AS d
JOIN verify_offsets AS o ON o.partition = d.partition AND d."offset" < o.next_offset
WHERE d.topic = $1 AND d.recorded_at >= $2
  AND NOT EXISTS (
    SELECT FROM verify_letters AS l
    WHERE l.partition = d.partition AND l."offset" = d."offset" AND l.recorded_at = d.recorded_at
  )
  AND NOT EXISTS (
    SELECT FROM verify_outbox AS b WHERE b.partition = d.partition AND b."offset" = d."offset" AND b.kind = 'dead-letter'
  )
ORDER BY d.partition, d."offset"
LIMIT $3
