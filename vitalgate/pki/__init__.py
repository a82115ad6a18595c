"""Keys and certificates: sealing of fields that name a person, and a certificate authority of one's own."""
