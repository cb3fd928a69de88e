"""Parts of evomask that are my own: of the search in `search`, of comparisons in `compare`."""
