"""One module for each kind of record: its fields, states and transitions."""
