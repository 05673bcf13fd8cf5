-- republish_page: what the events of some facts are made of, in their order; `decision` is null where a customer's rows are gone.
-- $1 bigint the place after which the page begins  $2 int most rows
SELECT s.place, r.registration_id, r.tenant_id, r.status, r.code, r.problem, r.decided_at, r.catalogue_version, r.customer_id,
  c.category_id, p.person_id, u.user_id, d.decision
FROM (SELECT * FROM republish WHERE place > $1 ORDER BY place LIMIT $2) AS s
JOIN registrations AS r USING (registration_id, tenant_id)
LEFT JOIN customers AS c ON c.customer_id = r.customer_id AND c.tenant_id = r.tenant_id
LEFT JOIN persons AS p ON p.customer_id = r.customer_id AND p.tenant_id = r.tenant_id
LEFT JOIN users AS u ON u.customer_id = r.customer_id AND u.tenant_id = r.tenant_id
LEFT JOIN decisions AS d ON d.customer_id = r.customer_id AND d.tenant_id = r.tenant_id
ORDER BY s.place
