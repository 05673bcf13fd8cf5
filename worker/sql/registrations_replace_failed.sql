-- registrations_replace_failed: outcomes of commands that are tried again after a dead letter: FAILED is no outcome.
-- $1 text[] registration ids  $2 text[] tenant ids  $3 text[] status  $4 text[] code  $5 text[] problem (JSON)
-- $6 text[] reason  $7 text[] customer ids  $8 text[] fingerprints  $9 int[] catalogue versions  $10 text[] topics
-- $11 int[] partitions  $12 bigint[] offsets  $13 timestamptz[] decided at  $14 timestamptz[] requested at  $15 text[] requested by
-- In place: a delete would look for customers of each row.
UPDATE registrations AS r
SET status = n.status, code = n.code, problem = n.problem::json, reason = n.reason, customer_id = n.customer_id,
  fingerprint = n.fingerprint, catalogue_version = n.catalogue_version, command_topic = n.command_topic, command_partition = n.command_partition,
  command_offset = n.command_offset, decided_at = n.decided_at, requested_at = n.requested_at, requested_by = n.requested_by
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::int[],
    $10::text[], $11::int[], $12::bigint[], $13::timestamptz[], $14::timestamptz[], $15::text[])
  AS n (registration_id, tenant_id, status, code, problem, reason, customer_id, fingerprint, catalogue_version,
    command_topic, command_partition, command_offset, decided_at, requested_at, requested_by)
WHERE r.registration_id = n.registration_id AND r.tenant_id = n.tenant_id AND r.status = 'FAILED'
