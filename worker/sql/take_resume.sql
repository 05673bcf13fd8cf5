-- take_resume: an operator's order to go on is taken by the lane that saw it, and by no other statement.
-- $1 text topic  $2 int partition  $3 uuid my owner  $4 bigint the offset that the order names
-- No row where another owner took over, or where the order has changed meanwhile.
UPDATE kafka_offsets SET resume_at_offset = NULL, dead_letter_run = 0
WHERE topic = $1 AND partition = $2 AND owner = $3 AND resume_at_offset = $4
RETURNING partition
