-- claim_again: a fresh owner for a partition that is still mine; no row means that it is not.
-- $1 text topic  $2 int partition  $3 uuid new owner  $4 uuid[] owners of mine: the last, and those whose claim was not answered
-- It waits for the row's lock, so a COMMIT of mine whose answer was lost has ended, one way or the other.
UPDATE kafka_offsets SET owner = $3, claimed_at = now()
WHERE topic = $1 AND partition = $2 AND owner = ANY($4)
RETURNING next_offset, last_offset, last_digest, dead_letter_run, resume_at_offset, skip_offset
