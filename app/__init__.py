"""The service: tables, use-cases, storage, queue, HTTP routes and the command line."""
