"""The longer tests of the boundary, by `make rings`: transport, identity provider, hostile requests, privacy, publish."""
