-- dead_letter_show: one dead letter, sealed as it is kept, with what became of it.
-- $1 text topic  $2 int partition  $3 bigint offset
SELECT d.topic, d.partition, d."offset", d.code, d.tenant_id, d.registration_id, d.recorded_at, d.sealed IS NULL AS withheld,
  d.sealed, r.status AS redrive, r.sent_at
FROM dead_letters AS d
LEFT JOIN dead_letter_redrives AS r USING (topic, partition, "offset", recorded_at)
WHERE d.topic = $1 AND d.partition = $2 AND d."offset" = $3
