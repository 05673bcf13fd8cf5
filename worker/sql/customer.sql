-- customer: one customer, as registered and as decided; no row where the tenant has none of that id.
-- $1 text tenant id  $2 text customer id
-- Under `read_as`: these tables show the rows of the tenant that the transaction has named, whatever stands behind WHERE.
SELECT c.customer_id, c.registration_id, c.email, c.phone, c.status, c.category_id, c.categorization, c.registered_at,
  p.person_id, p.first_name, p.last_name, p.customer_name, p.date_of_birth, p.place_of_birth, p.gender, p.nationality,
  p.nationalities, p.addresses, p.contacts,
  u.user_id, u.username, u.status AS user_status, u.roles, u.is_active, u.requires_password_change, u.two_factor_enabled,
  d.decision
FROM customers_of_tenant AS c
JOIN persons_of_tenant AS p USING (customer_id, tenant_id)
JOIN users_of_tenant AS u USING (customer_id, tenant_id)
JOIN decisions_of_tenant AS d USING (customer_id, tenant_id)
WHERE c.tenant_id = $1 AND c.customer_id = $2
