-- customer_insert: one customer, once. Parameters: the columns.
INSERT INTO customers (customer_id, tenant_id, registration_id, email, email_normalized, phone, status, category_id,
  categorization, registered_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (customer_id, tenant_id) DO NOTHING
