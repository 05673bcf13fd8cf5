-- decision_inputs_of: what the decision about one customer was made of, and what it was.
-- $1 text customer id or registration id  $2 text tenant id or slug, null for all
SELECT i.customer_id, i.tenant_id, t.slug, i.registration_id, i.registered_at, i.category_id, i.categorization, i.date_of_birth,
  i.nationalities, i.nationalities_told, i.residences, i.place_of_birth_told, i.phone_told, i.catalogue_version, i.decision
FROM decision_inputs AS i
JOIN tenants AS t USING (tenant_id)
WHERE i.customer_id IN (
    SELECT $1 UNION ALL SELECT r.customer_id FROM registrations AS r WHERE r.registration_id = $1
  ) AND ($2::text IS NULL OR i.tenant_id = $2 OR t.slug = $2)
ORDER BY i.tenant_id
