"""Every provider × operation × delivery that the catalog knows, against the sandbox: `make dialects`."""
