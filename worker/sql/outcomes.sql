-- outcomes: what became of these registrations; one look-up serves every request that waits.
-- $1 text[] tenant ids  $2 text[] registration ids
SELECT r.tenant_id, r.registration_id, r.status, r.code, r.problem, r.customer_id, r.fingerprint,
  r.command_topic, r.command_partition, r.command_offset, c.email AS username, c.status AS user_status
FROM unnest($1::text[], $2::text[]) AS w (tenant_id, registration_id)
JOIN registrations AS r USING (registration_id, tenant_id)
LEFT JOIN customers AS c ON c.customer_id = r.customer_id AND c.tenant_id = r.tenant_id
