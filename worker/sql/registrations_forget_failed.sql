-- registrations_forget_failed: make room for a command that is tried again after a dead letter: FAILED is no outcome.
-- $1 text[] registration ids  $2 text[] tenant ids
DELETE FROM registrations AS r
USING unnest($1::text[], $2::text[]) AS w (registration_id, tenant_id)
WHERE r.registration_id = w.registration_id AND r.tenant_id = w.tenant_id AND r.status = 'FAILED'
