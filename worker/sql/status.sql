-- status: what became of a registration, in every tenant that has one of that id.
-- $1 text registration id  $2 text tenant id or slug, null for all
SELECT r.registration_id, r.tenant_id, r.status, r.code, r.problem, r.customer_id, p.person_id, u.user_id,
  c.status AS customer_status, r.catalogue_version, r.command_topic, r.command_partition, r.command_offset,
  r.decided_at, r.requested_at,
  EXISTS (
    SELECT FROM outbox AS o
    WHERE o.command_topic = r.command_topic AND o.command_partition = r.command_partition
      AND o.command_offset = r.command_offset AND o.kind = 'event'
  ) AS in_outbox
FROM registrations AS r
JOIN tenants AS t ON t.tenant_id = r.tenant_id
LEFT JOIN customers AS c ON c.customer_id = r.customer_id AND c.tenant_id = r.tenant_id
LEFT JOIN persons AS p ON p.customer_id = r.customer_id AND p.tenant_id = r.tenant_id
LEFT JOIN users AS u ON u.customer_id = r.customer_id AND u.tenant_id = r.tenant_id
WHERE r.registration_id = $1 AND ($2::text IS NULL OR t.tenant_id = $2 OR t.slug = $2)
ORDER BY r.tenant_id
