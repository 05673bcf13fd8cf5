-- dead_letters_list: dead letters that fit a filter, newest first, with what became of them; nothing of what they hold.
-- $1 text code, null for all  $2 text tenant id or slug, null for all and for letters of nobody's  $3 interval least age
-- $4 interval greatest age, null for none  $5 int most rows
-- `total` counts those beyond the most too.
SELECT d.topic, d.partition, d."offset", d.code, d.tenant_id, d.registration_id, d.recorded_at, d.sealed IS NULL AS withheld,
  r.status AS redrive, r.sent_at, count(*) OVER () AS total
FROM dead_letters AS d
LEFT JOIN dead_letter_redrives AS r USING (topic, partition, "offset", recorded_at)
WHERE ($1::text IS NULL OR d.code = $1)
  AND ($2::text IS NULL OR d.tenant_id = $2 OR d.tenant_id = (SELECT t.tenant_id FROM tenants AS t WHERE t.slug = $2))
  AND ($3::interval IS NULL OR d.recorded_at <= now() - $3)
  AND ($4::interval IS NULL OR d.recorded_at >= now() - $4)
ORDER BY d.recorded_at DESC, d.topic, d.partition, d."offset" DESC
LIMIT $5
