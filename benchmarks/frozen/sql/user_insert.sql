-- user_insert: one login, once. Parameters: the columns.
INSERT INTO users (customer_id, tenant_id, user_id, username, password_hash, status, roles, is_active,
  requires_password_change, two_factor_enabled)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (customer_id, tenant_id) DO NOTHING
