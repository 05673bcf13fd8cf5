-- catalogues_read: every version of every tenant, under the lock that `apply` holds until its COMMIT is answered.
-- No parameters.
SELECT c.tenant_id, t.slug, t.name, c.version, c.effective_at, c.document
FROM catalogues AS c
JOIN tenants AS t USING (tenant_id)
ORDER BY c.tenant_id, c.version
