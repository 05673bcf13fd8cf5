-- ingress_keys: the secrets that every ingress shares, by name.
SELECT name, value FROM ingress_keys
