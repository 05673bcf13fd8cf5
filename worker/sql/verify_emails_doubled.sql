-- verify_emails_doubled: customers of one tenant with one email, by the normal form or by the address in lower case.
-- $1 int most rows
-- It trusts no index: a unique one may be what is broken. Only ids leave the database.
SELECT d.customer_ids[1] AS id, 'the same email as ' || array_to_string(d.customer_ids[2:], ', ') AS detail, count(*) OVER () AS total
FROM (
  SELECT tenant_id, array_agg(customer_id ORDER BY customer_id) AS customer_ids
  FROM customers GROUP BY tenant_id, email_normalized HAVING count(*) > 1
  UNION
  SELECT tenant_id, array_agg(customer_id ORDER BY customer_id) AS customer_ids
  FROM customers GROUP BY tenant_id, lower(email) HAVING count(*) > 1
) AS d
ORDER BY d.customer_ids
LIMIT $1
