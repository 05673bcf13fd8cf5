-- customers_insert: customers of one pass; each email at most once in it.
-- $1 text[] customer ids  $2 text[] tenant ids  $3 text[] registration ids  $4 text[] emails  $5 text[] normalized emails
-- $6 text[] phones  $7 text status  $8 text[] category ids  $9 text[] categorizations (JSON)  $10 timestamptz[] registered at
-- Rows that meet another are left out, and the caller counts: a violation would write the email into the server's log.
-- The conflict has no target: naming one key would let the other raise.
INSERT INTO customers (customer_id, tenant_id, registration_id, email, email_normalized, phone, status, category_id,
  categorization, registered_at)
SELECT c.customer_id, c.tenant_id, c.registration_id, c.email, c.email_normalized, c.phone, $7, c.category_id,
  c.categorization::json, c.registered_at
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $8::text[], $9::text[], $10::timestamptz[])
  AS c (customer_id, tenant_id, registration_id, email, email_normalized, phone, category_id, categorization, registered_at)
ORDER BY c.email_normalized, c.tenant_id
ON CONFLICT DO NOTHING
