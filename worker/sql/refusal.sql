-- refusal: why registrations of that id ended without a customer; the reason is for operators only.
-- $1 text registration id  $2 text tenant id or slug, null for all
SELECT r.registration_id, r.tenant_id, r.status, r.code, r.problem, r.reason, r.catalogue_version, r.decided_at
FROM registrations AS r
LEFT JOIN tenants AS t USING (tenant_id)
WHERE r.registration_id = $1 AND r.customer_id IS NULL AND ($2::text IS NULL OR r.tenant_id = $2 OR t.slug = $2)
ORDER BY r.tenant_id
