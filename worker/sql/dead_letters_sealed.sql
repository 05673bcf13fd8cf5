-- dead_letters_sealed: what exactly these dead letters hold, in their order; null where one has gone since.
-- $1 text[] topics  $2 int[] partitions  $3 bigint[] offsets  $4 timestamptz[] recorded at
-- By its time too: a topic made anew counts its offsets again, and the letter there now is another.
SELECT d.sealed
FROM unnest($1::text[], $2::int[], $3::bigint[], $4::timestamptz[]) WITH ORDINALITY
  AS w (topic, partition, "offset", recorded_at, place)
LEFT JOIN dead_letters AS d USING (topic, partition, "offset", recorded_at)
ORDER BY w.place
