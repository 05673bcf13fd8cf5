-- verify_letters_alone: dead letters of the topic whose row there is not; a topic made anew leaves the newer row alone.
-- $1 text topic of the commands  $2 timestamptz rows of letters since then must still be kept  $3 int most rows
SELECT concat_ws('/', $1::text, l.partition, l."offset") AS id, 'on the topic, and not in the table' AS detail, count(*) OVER () AS total
FROM (SELECT DISTINCT partition, "offset" FROM verify_letters WHERE recorded_at >= $2) AS l
WHERE NOT EXISTS (SELECT FROM dead_letters AS d WHERE d.topic = $1 AND d.partition = l.partition AND d."offset" = l."offset")
ORDER BY l.partition, l."offset"
LIMIT $3
