-- catalogue_show: one version's document; the one in force where none is named, the first where none is in force yet.
-- $1 text tenant id or slug  $2 int version, or null
SELECT c.version, c.document::text AS document
FROM catalogues AS c
JOIN tenants AS t USING (tenant_id)
WHERE (c.tenant_id = $1 OR t.slug = $1) AND ($2::int IS NULL OR c.version = $2)
ORDER BY c.effective_at <= clock_timestamp() DESC, CASE WHEN c.effective_at <= clock_timestamp() THEN -c.version ELSE c.version END
LIMIT 1
