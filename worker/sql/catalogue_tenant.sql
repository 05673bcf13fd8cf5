-- catalogue_tenant: write a tenant as its catalogue names it.
-- $1 text tenant id  $2 text slug  $3 text name
-- No row where its id or its slug already leads to another tenant: both are looked up, the id first. Nor where the tenant
-- has another slug: a record that names it by that would be decided in one way before, and in another after.
INSERT INTO tenants AS t (tenant_id, slug, name)
SELECT $1, $2, $3
WHERE NOT EXISTS (SELECT FROM tenants AS o WHERE o.tenant_id <> $1 AND (o.tenant_id = $2 OR o.slug IN ($1, $2)))
ON CONFLICT ON CONSTRAINT tenants_pk DO UPDATE SET name = excluded.name WHERE t.slug = excluded.slug
RETURNING t.tenant_id
