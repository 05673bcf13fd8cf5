-- verify_events_doubled: registrations with events under more than one `ce_id`.
-- $1 int most rows
SELECT registration_id AS id, min(ce_id) || ' and ' || max(ce_id) AS detail, count(*) OVER () AS total
FROM verify_events
GROUP BY registration_id, tenant_id
HAVING min(ce_id) <> max(ce_id)
ORDER BY registration_id, tenant_id
LIMIT $1
