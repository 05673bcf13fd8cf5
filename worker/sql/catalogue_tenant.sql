-- catalogue_tenant: write a tenant as its catalogue names it.
-- $1 text tenant id  $2 text slug  $3 text name
-- No row where its id or its slug already leads to another tenant: both are looked up, the id first.
INSERT INTO tenants AS t (tenant_id, slug, name)
SELECT $1, $2, $3
WHERE NOT EXISTS (SELECT FROM tenants AS o WHERE o.tenant_id <> $1 AND (o.tenant_id = $2 OR o.slug IN ($1, $2)))
ON CONFLICT ON CONSTRAINT tenants_pk DO UPDATE SET slug = excluded.slug, name = excluded.name
RETURNING t.tenant_id
