"""HTTP: a module for each resource, its schemas and the OpenAPI document. It asks the engine and computes nothing."""
