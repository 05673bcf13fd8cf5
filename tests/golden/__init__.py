"""Golden messages and decisions, and what releases asked of the database: files that later releases are held against."""
