-- registrations_insert: outcomes of one pass; each registration at most once in it.
-- $1 text[] registration ids  $2 text[] tenant ids  $3 text[] status  $4 text[] code  $5 text[] problem (JSON)
-- $6 text[] reason  $7 text[] customer ids  $8 text[] fingerprints  $9 int[] catalogue versions  $10 text topic
-- $11 int partition  $12 bigint[] offsets  $13 timestamptz[] decided at  $14 timestamptz[] requested at  $15 text[] requested by
-- Returns the ids that are new; sorted by key, so that two lanes never wait for each other in a circle.
INSERT INTO registrations (registration_id, tenant_id, status, code, problem, reason, customer_id, fingerprint,
  catalogue_version, command_topic, command_partition, command_offset, decided_at, requested_at, requested_by)
SELECT r.registration_id, r.tenant_id, r.status, r.code, r.problem::json, r.reason, r.customer_id, r.fingerprint,
  r.catalogue_version, $10, $11, r.command_offset, r.decided_at, r.requested_at, r.requested_by
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::int[],
    $12::bigint[], $13::timestamptz[], $14::timestamptz[], $15::text[])
  AS r (registration_id, tenant_id, status, code, problem, reason, customer_id, fingerprint, catalogue_version,
    command_offset, decided_at, requested_at, requested_by)
ORDER BY r.registration_id, r.tenant_id
ON CONFLICT DO NOTHING
RETURNING registration_id, tenant_id
