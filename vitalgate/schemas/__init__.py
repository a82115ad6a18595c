"""JSON Schemas of the public topics and the AsyncAPI document, generated from the models; and their compatibility."""
