-- outbox_insert: one event, once. Parameters: the columns.
INSERT INTO outbox (command_topic, command_partition, command_offset, kind, key, value, headers, sealed)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (command_topic, command_partition, command_offset, kind) DO NOTHING
