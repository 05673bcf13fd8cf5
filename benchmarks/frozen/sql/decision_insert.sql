-- decision_insert: one decision, once. Parameters: the columns.
INSERT INTO decisions (customer_id, tenant_id, catalogue_version, risk_level, risk_score, due_diligence,
  verification_level, next_review_on, decision)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (customer_id, tenant_id) DO NOTHING
