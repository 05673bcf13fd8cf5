"""The image and the dev cluster, as Docker runs them (`make test-docker`)."""
