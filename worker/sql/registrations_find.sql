-- registrations_find: outcomes that are there already. Nothing is locked: FAILED, which alone may change, is changed only where it still is.
-- $1 text[] registration ids  $2 text[] tenant ids
SELECT r.registration_id, r.tenant_id, r.status, r.fingerprint
FROM unnest($1::text[], $2::text[]) AS w (registration_id, tenant_id)
JOIN registrations AS r USING (registration_id, tenant_id)
