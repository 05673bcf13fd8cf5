-- catalogue_history: the versions that there are, newest first.
-- $1 text tenant id or slug, null for all
SELECT c.tenant_id, t.slug, c.version, c.effective_at, c.applied_at, c.applied_by,
  c.version = (
    SELECT coalesce(max(n.version) FILTER (WHERE n.effective_at <= clock_timestamp()), min(n.version))
    FROM catalogues AS n
    WHERE n.tenant_id = c.tenant_id
  ) AS holds
FROM catalogues AS c
JOIN tenants AS t USING (tenant_id)
WHERE $1::text IS NULL OR c.tenant_id = $1 OR t.slug = $1
ORDER BY t.slug, c.version DESC
