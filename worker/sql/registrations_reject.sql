-- registrations_reject: turn registrations of this transaction into refusals: their email has another customer.
-- $1 text[] registration ids  $2 text[] tenant ids  $3 text code
UPDATE registrations AS r
SET status = 'REJECTED', code = $3, customer_id = NULL
FROM unnest($1::text[], $2::text[]) AS w (registration_id, tenant_id)
WHERE r.registration_id = w.registration_id AND r.tenant_id = w.tenant_id
