-- begin_anew: set the position of a partition whose topic was made anew, or whose lost records an operator gave up.
-- $1 text topic  $2 int partition  $3 bigint next  $4 uuid my owner
-- No row means that another owner took over.
UPDATE kafka_offsets
SET next_offset = $3, last_offset = NULL, last_digest = NULL, resume_at_offset = NULL, skip_offset = NULL
WHERE topic = $1 AND partition = $2 AND owner = $4
RETURNING next_offset
