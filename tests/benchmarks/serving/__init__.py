"""Parts of the benchmarks of serving: the load, the servers, the bare engine, the check of answers."""
