"""The settings that are options of the command line too, and what is said of them. Importing it takes no time."""

OPTIONS = {
    "checkpoints": "Directory of the published checkpoints, or the URL of one (`s3://BUCKET/PREFIX`).",
    "host": "Address to listen on.",
    "port": "Port to listen on; 0 takes a free one.",
    "workers": "Number of worker processes.",
    "device": "Where the model lives: `auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`. "
    "Several, separated by commas, share the items: `cuda:0,cuda:1`.",
    "threads": "CPU threads of each worker's model; by default the cores ÷ `workers`.",
}
