"""Requests and responses of the HTTP API, a module for each of `routes/`, in OpenAI's shapes where they exist. Used by
the routes only."""
