-- dead_letters_chosen: the dead letters that fit a filter, in the order in which they came to each partition.
-- $1 text[] topics  $2 int[] partitions  $3 bigint[] offsets of single letters, or nulls for all
-- $4 text code, null for all  $5 text tenant id or slug, null for all and for letters of nobody's
SELECT d.topic, d.partition, d."offset", d.recorded_at, octet_length(d.sealed) AS size_bytes, r.status AS redrive
FROM dead_letters AS d
LEFT JOIN dead_letter_redrives AS r USING (topic, partition, "offset", recorded_at)
WHERE ($1::text[] IS NULL OR EXISTS (
    SELECT FROM unnest($1, $2::int[], $3::bigint[]) AS w (topic, partition, "offset")
    WHERE w.topic = d.topic AND w.partition = d.partition AND w."offset" = d."offset"
  ))
  AND ($4::text IS NULL OR d.code = $4)
  AND ($5::text IS NULL OR d.tenant_id = $5 OR d.tenant_id = (SELECT t.tenant_id FROM tenants AS t WHERE t.slug = $5))
ORDER BY d.topic, d.partition, d."offset"
