-- dead_letters_insert: keep what could not be processed; a topic made anew counts its offsets again, so the newer one stays.
-- $1 text topic  $2 int partition  $3 bigint[] offsets  $4 text[] codes  $5 text[] tenant ids  $6 text[] registration ids
-- $7 bytea[] sealed  $8 timestamptz[] recorded at
INSERT INTO dead_letters (topic, partition, "offset", code, tenant_id, registration_id, sealed, recorded_at)
SELECT $1, $2, d."offset", d.code, d.tenant_id, d.registration_id, d.sealed, d.recorded_at
FROM unnest($3::bigint[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::timestamptz[])
  AS d ("offset", code, tenant_id, registration_id, sealed, recorded_at)
ORDER BY d."offset"
ON CONFLICT ON CONSTRAINT dead_letters_pk DO UPDATE
SET code = excluded.code, tenant_id = excluded.tenant_id, registration_id = excluded.registration_id,
    sealed = excluded.sealed, recorded_at = excluded.recorded_at, stored_at = now()
