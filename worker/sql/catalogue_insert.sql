-- catalogue_insert: a further version of a tenant's catalogue; call it only while the lock is held.
-- $1 text tenant id  $2 text document (JSON)  $3 text by whom  $4 double precision seconds from now until it holds
-- Later than every earlier version, also where the clock was set back; a first version holds for every record anyhow.
INSERT INTO catalogues (tenant_id, version, effective_at, applied_at, applied_by, document)
SELECT $1::text, coalesce(max(version), 0) + 1,
  CASE
    WHEN count(*) = 0 THEN clock_timestamp()
    ELSE greatest(clock_timestamp() + make_interval(secs => $4), max(effective_at) + interval '1 millisecond')
  END,
  clock_timestamp(), $3::text, $2::text::json
FROM catalogues
WHERE tenant_id = $1
RETURNING version, effective_at
