-- verify_rows_of_events: the rows that events are about, in their order; status is null where there is none.
-- $1 text[] registration ids  $2 text[] tenant ids
-- An event is published after its row was committed, so whoever reads the row after the event must find it.
SELECT r.status, r.code, r.decided_at, r.customer_id, u.user_id, p.person_id, c.category_id,
  d.risk_level, d.risk_score, d.due_diligence, d.verification_level, d.next_review_on, d.catalogue_version,
  c.email, c.email_normalized, c.phone, u.username,
  p.first_name, p.last_name, p.customer_name, p.date_of_birth, p.place_of_birth
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w (registration_id, tenant_id, place)
LEFT JOIN registrations AS r ON r.registration_id = w.registration_id AND r.tenant_id = w.tenant_id
LEFT JOIN customers AS c ON c.customer_id = r.customer_id AND c.tenant_id = r.tenant_id
LEFT JOIN persons AS p ON p.customer_id = r.customer_id AND p.tenant_id = r.tenant_id
LEFT JOIN users AS u ON u.customer_id = r.customer_id AND u.tenant_id = r.tenant_id
LEFT JOIN decisions AS d ON d.customer_id = r.customer_id AND d.tenant_id = r.tenant_id
ORDER BY w.place
