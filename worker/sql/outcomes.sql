-- outcomes: what became of these registrations; one look-up serves every request that waits, of whatever tenants.
-- $1 text[] tenant ids  $2 text[] registration ids
SELECT tenant_id, registration_id, status, code, problem, customer_id, fingerprint, command_topic, command_partition, command_offset,
  username, user_status
FROM outcomes_of($1, $2)
