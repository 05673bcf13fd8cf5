-- verify_letters_of: what the dead-letter topic holds of these commands.
-- $1 int partition  $2 bigint[] offsets  $3 timestamptz[] record times
SELECT DISTINCT l."offset", l.digest
FROM unnest($2::bigint[], $3::timestamptz[]) AS w ("offset", recorded_at)
JOIN verify_letters AS l ON l.partition = $1 AND l."offset" = w."offset" AND l.recorded_at = w.recorded_at
