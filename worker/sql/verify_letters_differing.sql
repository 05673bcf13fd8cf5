-- verify_letters_differing: records of which the dead-letter topic holds different bytes.
-- $1 text topic of the commands  $2 int most rows
SELECT concat_ws('/', $1::text, partition, "offset") AS id, 'sent again with other bytes' AS detail, count(*) OVER () AS total
FROM verify_letters
GROUP BY partition, "offset", recorded_at
HAVING min(digest) <> max(digest)
ORDER BY partition, "offset"
LIMIT $2
