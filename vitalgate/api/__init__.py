"""HTTP over records and storage: REST, GraphQL, live queries, files. Thin: what a user may do, the database decides."""
