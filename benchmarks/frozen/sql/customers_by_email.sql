-- customers_by_email: which of these emails have a customer.
-- $1 text[] normalized emails  $2 text[] tenant ids
SELECT c.email_normalized, c.tenant_id
FROM unnest($1::text[], $2::text[]) AS w (email_normalized, tenant_id)
JOIN customers AS c USING (email_normalized, tenant_id)
