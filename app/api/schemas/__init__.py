"""The bodies of requests and answers. `app.api.limits` checks the sizes that settings limit."""
