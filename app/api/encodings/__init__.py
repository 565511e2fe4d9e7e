"""Bodies of requests and answers, one encoding a file. They know bytes and columns, neither HTTP nor models."""
