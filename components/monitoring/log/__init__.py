"""The prediction log once it is written: reading windows of it, compacting it, and records from KServe's own logger."""
