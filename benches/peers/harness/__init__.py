"""What every row shares: the contract of a row, the processes that run systems, and the report."""
