-- customers_count: how many customers a tenant has.
-- $1 text tenant id
SELECT count(*) AS total
FROM customers
WHERE tenant_id = $1
