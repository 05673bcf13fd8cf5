-- verify_events_differing: a `ce_id` under which the topic holds different bytes.
-- $1 int most rows
SELECT ce_id AS id, 'different bytes in events of ' || min(registration_id) AS detail, count(*) OVER () AS total
FROM verify_events
GROUP BY ce_id
HAVING min(digest) <> max(digest)
ORDER BY ce_id
LIMIT $1
