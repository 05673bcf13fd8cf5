-- verify_tenants: by which names a command may call a tenant.
SELECT tenant_id, slug FROM tenants
