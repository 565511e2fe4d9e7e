"""What goes over the wire, a file for each resource. The sizes that settings bound are checked in `app.api.limits`."""
