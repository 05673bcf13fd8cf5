-- registration_insert: one outcome, once; a command that comes again changes nothing. Parameters: the columns.
INSERT INTO registrations (registration_id, tenant_id, status, code, problem, reason, customer_id, fingerprint,
  catalogue_version, command_topic, command_partition, command_offset, decided_at, requested_at, requested_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (registration_id, tenant_id) DO NOTHING
