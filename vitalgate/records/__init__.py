"""The patient's record around the devices: what is kept, who may do what, and how a record lives. Pure."""
