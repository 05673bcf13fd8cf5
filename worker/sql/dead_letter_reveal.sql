-- dead_letter_reveal: note who is about to see what a dead letter holds; nothing is shown before this is committed.
-- $1 text topic  $2 int partition  $3 bigint offset  $4 timestamptz recorded at  $5 text who  $6 text why
INSERT INTO dead_letter_reveals (topic, partition, "offset", recorded_at, revealed_by, reason)
VALUES ($1, $2, $3, $4, $5, $6)
RETURNING reveal_id
