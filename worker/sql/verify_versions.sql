-- verify_versions: outcomes that name another version of the rules than the one in force at their record's time.
-- $1 int most rows
-- A tenant's first version holds for every record, a later one from its effective_at.
WITH wrong AS (
  SELECT r.registration_id, r.catalogue_version, h.version AS held
  FROM registrations AS r
  CROSS JOIN LATERAL (
    SELECT coalesce(max(c.version) FILTER (WHERE c.effective_at <= r.decided_at), min(c.version)) AS version
    FROM catalogues AS c
    WHERE c.tenant_id = r.tenant_id
  ) AS h
  WHERE r.catalogue_version IS DISTINCT FROM h.version AND r.status <> 'FAILED'
)
SELECT registration_id AS id, 'version ' || coalesce(catalogue_version::text, 'none') || ', where ' || coalesce(held::text, 'none') || ' held' AS detail,
  count(*) OVER () AS total
FROM wrong
ORDER BY registration_id
LIMIT $1
