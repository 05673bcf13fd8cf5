-- verify_counts: how many registrations ended how.
SELECT status, count(*) AS total FROM registrations GROUP BY status
