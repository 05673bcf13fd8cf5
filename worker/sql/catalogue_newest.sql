-- catalogue_newest: a tenant's newest version, in force or not yet.
-- $1 text tenant id
SELECT version, effective_at, document::text AS document
FROM catalogues
WHERE tenant_id = $1
ORDER BY version DESC
LIMIT 1
