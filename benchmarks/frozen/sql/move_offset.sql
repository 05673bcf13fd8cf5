-- move_offset: the fence, first in each batch's transaction; no row means that another owner took over.
-- $1 text topic  $2 int partition  $3 bigint expected  $4 bigint next  $5 uuid my owner
-- $6 bigint the last record's offset, or null to keep it  $7 bytea its digest  $8 int dead letters in a row up to here
-- An order to skip a record is done once the position has passed it.
UPDATE kafka_offsets
SET next_offset = $4,
    last_offset = coalesce($6, last_offset),
    last_digest = coalesce($7, last_digest),
    dead_letter_run = $8,
    skip_offset = CASE WHEN skip_offset < $4 THEN NULL ELSE skip_offset END
WHERE topic = $1 AND partition = $2 AND next_offset = $3 AND owner = $5
RETURNING next_offset
