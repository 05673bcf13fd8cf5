-- claim: take a partition for a new owner, whoever had it; waits for a batch of the old owner that is in flight.
-- $1 text topic  $2 int partition  $3 uuid owner  $4 bigint the log's start, where a partition without a row begins
-- One row: where to go on. Reading the outbox is a later statement: this one does not see what it waited for.
INSERT INTO kafka_offsets AS k (topic, partition, next_offset, owner, claimed_at)
VALUES ($1, $2, $4, $3, now())
ON CONFLICT ON CONSTRAINT kafka_offsets_pk DO UPDATE SET owner = excluded.owner, claimed_at = excluded.claimed_at
RETURNING k.next_offset, k.last_offset, k.last_digest, k.dead_letter_run, k.resume_at_offset, k.skip_offset
