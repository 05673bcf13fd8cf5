-- verify_customers_alone: customers whose registration is not accepted, or has another customer.
-- $1 int most rows
SELECT c.customer_id AS id, c.registration_id || CASE
    WHEN r.status IS NULL THEN ' is not there'
    WHEN r.status = 'REGISTRATION_COMPLETE' THEN ' has another customer'
    ELSE ' is ' || r.status
  END AS detail, count(*) OVER () AS total
FROM customers AS c
LEFT JOIN registrations AS r ON r.registration_id = c.registration_id AND r.tenant_id = c.tenant_id
WHERE r.status IS DISTINCT FROM 'REGISTRATION_COMPLETE' OR r.customer_id <> c.customer_id
ORDER BY c.customer_id, c.tenant_id
LIMIT $1
