"""Names of settings, and the descriptions of those that are options of the command line. It imports nothing."""

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # a variable of prometheus_client: where workers add up their metrics
OPTIONS = {
    "checkpoints": "Directory of the published checkpoints, or its URL (`s3://BUCKET/PREFIX`).",
    "host": "Address to listen on.",
    "port": "Port to listen on; 0 takes a free one.",
    "workers": "Number of worker processes.",
    "device": "Device of the model: `auto` (CUDA if available), `cpu`, `cuda` or `cuda:N`. "
    "Several, separated by commas, share the items: `cuda:0,cuda:1`.",
    "threads": "CPU threads of each worker's model. Unset: cores ÷ workers.",
}
