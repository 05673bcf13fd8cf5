-- verify_accepted: the next accepted registrations by key, each with the ids of the rows that must belong to it.
-- $1 text after this registration id  $2 text and this tenant id  $3 int most rows
-- By key and not by a cursor: no snapshot is held while a large table is gone through.
SELECT r.registration_id, r.tenant_id, r.customer_id, c.customer_id AS customer_row,
  p.person_id, u.user_id, d.customer_id AS decision_row
FROM registrations AS r
LEFT JOIN customers AS c ON c.customer_id = r.customer_id AND c.tenant_id = r.tenant_id
LEFT JOIN persons AS p ON p.customer_id = r.customer_id AND p.tenant_id = r.tenant_id
LEFT JOIN users AS u ON u.customer_id = r.customer_id AND u.tenant_id = r.tenant_id
LEFT JOIN decisions AS d ON d.customer_id = r.customer_id AND d.tenant_id = r.tenant_id
WHERE (r.registration_id, r.tenant_id) > ($1, $2) AND r.status = 'REGISTRATION_COMPLETE'
ORDER BY r.registration_id, r.tenant_id
LIMIT $3
